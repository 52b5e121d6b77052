//! One panel: title, legend, axes, curves.

use super::axis::{labels, ticks};
use super::canvas::{Area, Canvas, Colour, Coverage, TEXT_HEIGHT, text_width};
use super::{Panel, Series, Style};

/// Font pixels of a panel's text are so many pixels wide.
const SCALE: usize = 2;
/// Space left of the axes, for the numbers.
const LEFT: usize = 100;
/// Space right of the axes, for half of the last number.
const RIGHT: usize = 36;
/// Space above the axes, for title and legend.
const TOP: usize = 40;
/// Space below the axes, for numbers and label.
const BOTTOM: usize = 68;
const GAP: usize = 8;
/// Length of a line in the legend.
const SAMPLE: usize = 26;
/// Share of the values of a faint series at either end that may leave the panel.
const OUTLIERS: f64 = 0.01;
/// Share of a range that is left free at its ends.
const PADDING: f64 = 0.05;
const FAINT: f32 = 0.3;

/// Draws `panel` with its top left corner at `corner`.
pub(super) fn draw(panel: &Panel, canvas: &mut Canvas, corner: (usize, usize), size: (usize, usize)) {
    let axes = Area {
        left: corner.0 + LEFT,
        top: corner.1 + TOP,
        width: size.0.saturating_sub(LEFT + RIGHT),
        height: size.1.saturating_sub(TOP + BOTTOM),
    };
    canvas.text(axes.left, corner.1 + GAP, &panel.title, SCALE, Colour::INK);
    canvas.fill(axes, Colour::PAPER);
    let points = || panel.series.iter().flat_map(finite);
    if points().next().is_none() {
        let message = panel.empty_message.as_str();
        let left = axes.left + (axes.width.saturating_sub(text_width(message, SCALE))) / 2;
        canvas.text(left, axes.top + axes.height / 2 - TEXT_HEIGHT, message, SCALE, Colour::SOFT_INK);
        return;
    }
    legend(panel, canvas, axes);
    let range = points().map(|(x, _)| x).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    let view = View { axes, x: widened(panel.x_range.unwrap_or(range)), y: y_range(panel) };
    view.draw_axes(canvas, &panel.x_label);
    for place in &panel.marks {
        view.draw_mark(canvas, *place);
    }
    // What is faint goes behind.
    for faint in [true, false] {
        for series in panel.series.iter().filter(|series| (series.style == Style::Faint) == faint) {
            view.draw_series(canvas, series);
        }
    }
}

/// The range of the y axis: all of each curve, and of a faint one all but its outliers.
pub(super) fn y_range(panel: &Panel) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for series in &panel.series {
        let mut values: Vec<f64> = finite(series).map(|(_, y)| y).collect();
        values.sort_by(f64::total_cmp);
        let outliers = if series.style == Style::Faint { (values.len() as f64 * OUTLIERS).ceil() as usize } else { 0 };
        // Of a few values none is called an outlier.
        let outliers = if values.len() < 20 { 0 } else { outliers };
        if let (Some(first), Some(last)) = (values.get(outliers), values.iter().rev().nth(outliers)) {
            low = low.min(*first);
            high = high.max(*last);
        }
    }
    let (low, high) = widened((low, high));
    let pad = (high - low) * PADDING;
    (low - pad, high + pad)
}

/// A range of one value gets some width.
fn widened((low, high): (f64, f64)) -> (f64, f64) {
    let least = (low.abs().max(high.abs()) * 1e-6).max(1e-12);
    if high - low >= least {
        return (low, high);
    }
    let around = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
    (low - around, high + around)
}

fn finite(series: &Series) -> impl Iterator<Item = (f64, f64)> + '_ {
    series.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite())
}

/// Lines with names, right of the title; those that do not fit are left out from the first on.
fn legend(panel: &Panel, canvas: &mut Canvas, axes: Area) {
    let mut entries: Vec<(&str, Colour, f32)> = panel
        .series
        .iter()
        .filter(|series| !series.label.is_empty())
        .map(|series| (series.label.as_str(), series.colour, if series.style == Style::Faint { FAINT } else { 1.0 }))
        .collect();
    if !panel.marks.is_empty() {
        entries.push((panel.marks_label.as_str(), Colour::RED, 1.0));
    }
    let title_end = axes.left + text_width(&panel.title, SCALE) + 2 * GAP;
    let top = axes.top - TOP + GAP;
    let mut right = axes.left + axes.width;
    for (label, colour, strength) in entries.into_iter().rev() {
        let width = SAMPLE + GAP + text_width(label, SCALE);
        let Some(left) = right.checked_sub(width).filter(|left| *left >= title_end) else { return };
        canvas.text(left + SAMPLE + GAP, top, label, SCALE, Colour::SOFT_INK);
        let mut sample = Coverage::new(Area { left, top, width: SAMPLE, height: TEXT_HEIGHT * SCALE });
        let middle = (TEXT_HEIGHT * SCALE) as f32 / 2.0;
        sample.line((2.0, middle), (SAMPLE as f32 - 2.0, middle), 3.0);
        canvas.paint(&sample, colour, strength);
        right = left.saturating_sub(2 * GAP);
    }
}

/// Axes and what they show.
struct View {
    axes: Area,
    x: (f64, f64),
    y: (f64, f64),
}

// === impl View ===

impl View {
    /// Pixels from the corner of the axes.
    fn place(&self, x: f64, y: f64) -> (f32, f32) {
        let across = (x - self.x.0) / (self.x.1 - self.x.0) * self.axes.width as f64;
        let down = (self.y.1 - y) / (self.y.1 - self.y.0) * self.axes.height as f64;
        // Far outside the panel is outside the panel, and no line is a million pixels long.
        let far = 10.0 * self.axes.height as f64;
        (across as f32, down.clamp(-far, far) as f32)
    }

    fn draw_axes(&self, canvas: &mut Canvas, x_label: &str) {
        let axes = self.axes;
        let (bottom, text_height) = (axes.top + axes.height, TEXT_HEIGHT * SCALE);
        let down = ticks(self.y.0, self.y.1, 5);
        for (tick, label) in down.iter().zip(labels(&down)) {
            let y = axes.top + self.place(self.x.0, *tick).1.round() as usize;
            canvas.fill(Area { left: axes.left, top: y, width: axes.width, height: 1 }, Colour::GRID);
            let left = axes.left.saturating_sub(text_width(&label, SCALE) + GAP);
            canvas.text(left, y.saturating_sub(text_height / 2 - 1), &label, SCALE, Colour::SOFT_INK);
        }
        let across = ticks(self.x.0, self.x.1, 6);
        for (tick, label) in across.iter().zip(labels(&across)) {
            let x = axes.left + self.place(*tick, self.y.0).0.round() as usize;
            canvas.fill(Area { left: x, top: axes.top, width: 1, height: axes.height }, Colour::GRID);
            let left = x.saturating_sub(text_width(&label, SCALE) / 2);
            canvas.text(left, bottom + GAP, &label, SCALE, Colour::SOFT_INK);
        }
        let left = axes.left + axes.width.saturating_sub(text_width(x_label, SCALE)) / 2;
        canvas.text(left, bottom + 2 * GAP + text_height, x_label, SCALE, Colour::SOFT_INK);
        canvas.fill(Area { left: axes.left, top: axes.top, width: 2, height: axes.height }, Colour::SOFT_INK);
        canvas.fill(Area { left: axes.left, top: bottom, width: axes.width, height: 2 }, Colour::SOFT_INK);
    }

    fn draw_mark(&self, canvas: &mut Canvas, place: f64) {
        if !(self.x.0..=self.x.1).contains(&place) {
            return;
        }
        let x = self.axes.left + self.place(place, self.y.0).0.round() as usize;
        for top in (self.axes.top..self.axes.top + self.axes.height).step_by(10) {
            canvas.fill(Area { left: x, top, width: 2, height: 6 }, Colour::RED);
        }
    }

    fn draw_series(&self, canvas: &mut Canvas, series: &Series) {
        let (thickness, strength) = if series.style == Style::Faint { (1.4, FAINT) } else { (2.4, 1.0) };
        let mut coverage = Coverage::new(self.axes);
        for run in series.points.split(|(x, y)| !x.is_finite() || !y.is_finite()) {
            let places = thinned(&run.iter().map(|(x, y)| self.place(*x, *y)).collect::<Vec<_>>());
            if let [only] = places[..] {
                coverage.line(only, only, 2.0 * thickness);
            }
            for pair in places.windows(2) {
                coverage.line(pair[0], pair[1], thickness);
            }
            if series.style == Style::Dots {
                places.iter().for_each(|place| coverage.line(*place, *place, 7.0));
            }
        }
        canvas.paint(&coverage, series.colour, strength);
    }
}

/// Of many points in one column of pixels the first, the lowest, the highest and the last: they look the same.
fn thinned(places: &[(f32, f32)]) -> Vec<(f32, f32)> {
    let mut kept = Vec::new();
    for column in places.chunk_by(|a, b| a.0.floor() == b.0.floor()) {
        if column.len() <= 4 {
            kept.extend_from_slice(column);
            continue;
        }
        let by_height = |a: &&(f32, f32), b: &&(f32, f32)| a.1.total_cmp(&b.1);
        let ends = [column.first(), column.iter().min_by(by_height), column.iter().max_by(by_height), column.last()];
        kept.extend(ends.into_iter().flatten());
    }
    kept
}
