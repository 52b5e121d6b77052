//! Values with their intervals, a line each: what a table says, to be seen at a glance.

use super::axis::{labels, ticks};
use super::canvas::{Area, Canvas, Colour, Coverage, TEXT_HEIGHT, text_width};
use crate::{EvalError, statistics::Interval};

/// Font pixels are so many pixels wide.
const SCALE: usize = 2;
const MARGIN: usize = 16;
const GAP: usize = 8;
/// Height of a line.
const LINE: usize = 30;
/// Width of the axes.
const AXES: usize = 560;
/// Share of a range that is left free at its ends.
const PADDING: f64 = 0.05;

/// Lines of values with intervals over one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    title: String,
    x_label: String,
    lines: Vec<Line>,
    mark: Option<f64>,
}

#[derive(Debug, Clone, PartialEq)]
struct Line {
    label: String,
    value: Result<(f64, Option<Interval>), String>,
    colour: Colour,
}

impl Forest {
    /// No line yet.
    #[must_use]
    pub fn new(title: impl Into<String>, x_label: impl Into<String>) -> Self {
        Self { title: title.into(), x_label: x_label.into(), lines: Vec::new(), mark: None }
    }

    /// Adds a value; one that is no number is written as undefined.
    #[must_use]
    pub fn value(self, label: impl Into<String>, value: f64, interval: Option<Interval>, colour: Colour) -> Self {
        if !value.is_finite() {
            return self.undefined(label, "undefined", colour);
        }
        let interval = interval.filter(|interval| interval.lower.is_finite() && interval.upper.is_finite());
        self.line(label.into(), Ok((value, interval)), colour)
    }

    /// Adds a line that has no value, and says why.
    #[must_use]
    pub fn undefined(self, label: impl Into<String>, reason: impl Into<String>, colour: Colour) -> Self {
        self.line(label.into(), Err(reason.into()), colour)
    }

    /// Marks a value by a dashed line: chance, or no difference.
    #[must_use]
    pub fn mark(mut self, value: f64) -> Self {
        self.mark = Some(value).filter(|value| value.is_finite());
        self
    }

    fn line(mut self, label: String, value: Result<(f64, Option<Interval>), String>, colour: Colour) -> Self {
        self.lines.push(Line { label, value, colour });
        self
    }

    /// Draws it.
    #[must_use]
    pub fn render(&self) -> Canvas {
        let texts: Vec<String> = self.lines.iter().map(Line::text).collect();
        let widest = |widths: &mut dyn Iterator<Item = usize>| widths.max().unwrap_or(0);
        let label_width = widest(&mut self.lines.iter().map(|line| text_width(&line.label, SCALE)));
        let text_room = widest(&mut texts.iter().map(|text| text_width(text, SCALE)));
        let text_height = TEXT_HEIGHT * SCALE;
        let header = if self.title.is_empty() { 0 } else { text_height + MARGIN };
        let axes = Area {
            left: MARGIN + label_width + 2 * GAP,
            top: MARGIN + header,
            width: AXES,
            height: self.lines.len().max(1) * LINE,
        };
        let (bottom, right) = (axes.top + axes.height, axes.left + axes.width);
        let width = right + 2 * GAP + text_room + MARGIN;
        let width = width.max(2 * MARGIN + text_width(&self.title, SCALE));
        let mut canvas = Canvas::new(width, bottom + 3 * GAP + 2 * text_height + MARGIN, Colour::WHITE);
        canvas.text(MARGIN, MARGIN, &self.title, SCALE, Colour::INK);
        canvas.fill(axes, Colour::PAPER);
        let (low, high) = self.range();
        let place = |value: f64| ((value - low) / (high - low) * axes.width as f64).round().max(0.0);
        let steps = ticks(low, high, 6);
        for (tick, label) in steps.iter().zip(labels(&steps)) {
            let x = axes.left + place(*tick) as usize;
            canvas.fill(Area { left: x, width: 1, ..axes }, Colour::GRID);
            let left = x.saturating_sub(text_width(&label, SCALE) / 2);
            canvas.text(left, bottom + GAP, &label, SCALE, Colour::SOFT_INK);
        }
        if let Some(mark) = self.mark {
            for top in (axes.top..bottom).step_by(10) {
                canvas.fill(Area { left: axes.left + place(mark) as usize, top, width: 2, height: 6 }, Colour::RED);
            }
        }
        for (row, (line, text)) in self.lines.iter().zip(&texts).enumerate() {
            let top = axes.top + row * LINE;
            let text_top = top + (LINE - text_height) / 2;
            let left = axes.left.saturating_sub(2 * GAP + text_width(&line.label, SCALE));
            canvas.text(left, text_top, &line.label, SCALE, Colour::INK);
            let ink = if line.value.is_ok() { Colour::INK } else { Colour::SOFT_INK };
            canvas.text(right + 2 * GAP, text_top, text, SCALE, ink);
            if let Ok((value, interval)) = &line.value {
                let mut coverage = Coverage::new(Area { top, height: LINE, ..axes });
                let middle = LINE as f32 / 2.0;
                if let Some(interval) = interval {
                    let (from, to) = (place(interval.lower) as f32, place(interval.upper) as f32);
                    coverage.line((from, middle), (to, middle), 3.0);
                    for end in [from, to] {
                        coverage.line((end, middle - 6.0), (end, middle + 6.0), 2.4);
                    }
                }
                let dot = (place(*value) as f32, middle);
                coverage.line(dot, dot, 11.0);
                canvas.paint(&coverage, line.colour, 1.0);
            }
        }
        let left = axes.left + axes.width.saturating_sub(text_width(&self.x_label, SCALE)) / 2;
        canvas.text(left, bottom + 2 * GAP + text_height, &self.x_label, SCALE, Colour::SOFT_INK);
        canvas
    }

    /// Draws it and encodes it.
    ///
    /// # Errors
    /// [`EvalError::Png`] for a picture beyond PNG's limits.
    pub fn to_png(&self) -> Result<Vec<u8>, EvalError> {
        self.render().to_png()
    }

    /// What the axis spans: all values, interval ends and the mark, and a little more.
    fn range(&self) -> (f64, f64) {
        let of_line = |line: &Line| match &line.value {
            Ok((value, Some(interval))) => vec![*value, interval.lower, interval.upper],
            Ok((value, None)) => vec![*value],
            Err(_) => Vec::new(),
        };
        let values = self.lines.iter().flat_map(of_line).chain(self.mark);
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
        match (low, high) {
            (low, high) if low > high => (0.0, 1.0),
            (low, high) if high - low < 1e-12 * low.abs().max(1.0) => (low - 0.5, high + 0.5),
            (low, high) => (low - PADDING * (high - low), high + PADDING * (high - low)),
        }
    }
}

impl Line {
    fn text(&self) -> String {
        match &self.value {
            Ok((value, Some(Interval { lower, upper }))) => format!("{value:.3} ({lower:.3} to {upper:.3})"),
            Ok((value, None)) => format!("{value:.3} (no interval)"),
            Err(reason) => reason.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns in which a colour stands.
    fn columns(canvas: &Canvas, colour: Colour) -> Vec<usize> {
        let places = canvas.pixels().chunks_exact(3).enumerate().filter(|(_, pixel)| *pixel == colour.0);
        let mut columns: Vec<usize> = places.map(|(place, _)| place % canvas.width()).collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    fn interval(lower: f64, upper: f64) -> Option<Interval> {
        Some(Interval { lower, upper })
    }

    #[test]
    fn a_wider_interval_is_a_longer_line_around_its_value() {
        let canvas = Forest::new("AUROC", "area")
            .value("narrow", 0.8, interval(0.75, 0.85), Colour::BLUE)
            .value("wide", 0.7, interval(0.5, 0.9), Colour::GREEN)
            .undefined("none", "undefined: no positive", Colour::ORANGE)
            .mark(0.5)
            .render();
        let (narrow, wide) = (columns(&canvas, Colour::BLUE), columns(&canvas, Colour::GREEN));
        assert!(wide.len() > 3 * narrow.len() && narrow.len() > 40, "{} {}", wide.len(), narrow.len());
        assert!(narrow.first() > wide.first() && narrow.last() < wide.last());
        // Nothing is drawn where there is no value, and the mark stands at the end of the wide one.
        assert_eq!(columns(&canvas, Colour::ORANGE), Vec::<usize>::new());
        let mark = columns(&canvas, Colour::RED);
        assert!(!mark.is_empty() && wide.first().is_some_and(|first| first.abs_diff(mark[0]) < 6), "{mark:?} {wide:?}");
    }

    #[test]
    fn values_that_are_no_numbers_and_no_values_at_all_are_drawn_as_such() -> Result<(), EvalError> {
        let nan = Forest::new("", "").value("a", f64::NAN, None, Colour::BLUE);
        assert_eq!(nan, Forest::new("", "").undefined("a", "undefined", Colour::BLUE));
        for forest in [nan, Forest::new("", ""), Forest::new("", "").value("one", 3.0, None, Colour::BLUE)] {
            assert_eq!(&forest.to_png()?[1..4], b"PNG");
        }
        Ok(())
    }
}
