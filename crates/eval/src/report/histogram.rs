//! Histograms of several samples over common bins, as outlines: filled bars would hide each other.

use crate::plot::{Colour, Panel, Series, Style};

/// A sample to be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    /// Its name.
    pub label: &'a str,
    /// Its values; what is no number is left out.
    pub values: &'a [f64],
    /// Its colour.
    pub colour: Colour,
}

/// Share of each sample in each of `bins` equal parts of the range of all, with dashed lines at `marks`.
#[must_use]
pub fn histogram_panel(
    title: &str,
    x_label: &str,
    samples: &[Sample<'_>],
    bins: usize,
    marks: (&str, &[f64]),
) -> Panel {
    let finite =
        |sample: &Sample<'_>| -> Vec<f64> { sample.values.iter().copied().filter(|v| v.is_finite()).collect() };
    let values: Vec<Vec<f64>> = samples.iter().map(finite).collect();
    let panel = Panel::new(title, x_label).empty_message("no values");
    let range = values.iter().flatten().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(*x), b.max(*x)));
    if range.0 > range.1 {
        return panel;
    }
    let (low, width) = bin_width(range, bins.max(1));
    let panel =
        samples.iter().zip(&values).filter(|(_, values)| !values.is_empty()).fold(panel, |panel, (sample, values)| {
            panel.with(Series::new(sample.label, outline(values, low, width, bins.max(1)), sample.colour, Style::Line))
        });
    if marks.1.is_empty() { panel } else { panel.marks(marks.0, marks.1.to_vec()) }
}

/// Start of the first bin and width of each; a single value gets a bin around it.
fn bin_width((low, high): (f64, f64), bins: usize) -> (f64, f64) {
    let span = high - low;
    if span > 0.0 { (low, span / bins as f64) } else { (low - 0.5, 1.0 / bins as f64) }
}

/// The corners of the outline, from the floor to the floor.
fn outline(values: &[f64], low: f64, width: f64, bins: usize) -> Vec<(f64, f64)> {
    let mut counts = vec![0usize; bins];
    for value in values {
        // The largest value belongs to the last bin.
        counts[(((value - low) / width) as usize).min(bins - 1)] += 1;
    }
    let edge = |bin: usize| low + bin as f64 * width;
    let share = |count: usize| count as f64 / values.len() as f64;
    let tops =
        counts.iter().enumerate().flat_map(|(bin, count)| [(edge(bin), share(*count)), (edge(bin + 1), share(*count))]);
    std::iter::once((edge(0), 0.0)).chain(tops).chain(std::iter::once((edge(bins), 0.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_bin_and_shares_sum_to_one() {
        let values = [0.0, 0.1, 0.9, 1.0, 1.9, 2.0];
        let corners = outline(&values, 0.0, 1.0, 2);
        assert_eq!(corners, [(0.0, 0.0), (0.0, 0.5), (1.0, 0.5), (1.0, 0.5), (2.0, 0.5), (2.0, 0.0)]);
        // All alike: all in one bin.
        let (low, width) = bin_width((3.0, 3.0), 4);
        let tallest = outline(&[3.0; 5], low, width, 4).into_iter().map(|(_, y)| y).fold(0.0, f64::max);
        assert_eq!(tallest, 1.0);
    }
}
