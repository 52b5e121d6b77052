//! Line plots: panels of curves with axes, grid and legend, to be looked at by a person.
//!
//! ```
//! use raygen_eval::plot::{Colour, Figure, Panel, Series, Style};
//! # fn main() -> Result<(), raygen_eval::EvalError> {
//! let points: Vec<(f64, f64)> = (0..100).map(|step| (f64::from(step), (-0.05 * f64::from(step)).exp())).collect();
//! let panel = Panel::new("loss", "step").with(Series::new("train", points, Colour::BLUE, Style::Line));
//! let png = Figure::new("a run", 2).with(panel).to_png()?;
//! # assert_eq!(&png[1..4], b"PNG");
//! # Ok(())
//! # }
//! ```

mod axis;
mod canvas;
mod forest;
mod panel;

pub use self::canvas::{Canvas, Colour};
pub use self::forest::Forest;

use self::canvas::TEXT_HEIGHT;
use crate::EvalError;

/// Size of a panel in pixels, its labels included.
const PANEL: (usize, usize) = (720, 400);
/// Space around a figure.
const MARGIN: usize = 16;
/// Font pixels of the figure's title are so many pixels wide.
const TITLE_SCALE: usize = 3;

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A thin pale line, behind the others: values as measured, whose outliers may leave the panel.
    Faint,
    /// A line.
    Line,
    /// A line with a dot at each point.
    Dots,
}

/// A curve.
#[derive(Debug, Clone)]
pub struct Series {
    label: String,
    points: Vec<(f64, f64)>,
    colour: Colour,
    style: Style,
}

/// Curves over one pair of axes.
#[derive(Debug, Clone)]
pub struct Panel {
    title: String,
    x_label: String,
    series: Vec<Series>,
    /// Places on the x axis with a dashed line, and what they are.
    marks: Vec<f64>,
    marks_label: String,
    /// What the x axis spans; `None` for what the curves do.
    x_range: Option<(f64, f64)>,
    /// What stands there as long as there is no curve.
    empty_message: String,
}

/// Panels in rows.
#[derive(Debug, Clone)]
pub struct Figure {
    title: String,
    columns: usize,
    panels: Vec<Panel>,
}

impl Series {
    /// A curve through `points` (x, y), x rising; it breaks where a value is no number.
    #[must_use]
    pub fn new(label: impl Into<String>, points: Vec<(f64, f64)>, colour: Colour, style: Style) -> Self {
        Self { label: label.into(), points, colour, style }
    }
}

impl Panel {
    /// An empty panel.
    #[must_use]
    pub fn new(title: impl Into<String>, x_label: impl Into<String>) -> Self {
        let (title, x_label) = (title.into(), x_label.into());
        Self {
            title,
            x_label,
            series: Vec::new(),
            marks: Vec::new(),
            marks_label: String::new(),
            x_range: None,
            empty_message: "no numbers yet".to_owned(),
        }
    }

    /// Adds a curve.
    #[must_use]
    pub fn with(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// Spans the x axis from `low` to `high`, so that panels side by side can be compared.
    #[must_use]
    pub fn x_range(mut self, low: f64, high: f64) -> Self {
        self.x_range = Some((low, high));
        self
    }

    /// Says this instead of "no numbers yet" if no curve has a number.
    #[must_use]
    pub fn empty_message(mut self, message: impl Into<String>) -> Self {
        self.empty_message = message.into();
        self
    }

    /// Marks places on the x axis by dashed lines.
    #[must_use]
    pub fn marks(mut self, label: impl Into<String>, places: Vec<f64>) -> Self {
        self.marks_label = label.into();
        self.marks = places;
        self
    }
}

impl Figure {
    /// An empty figure with at most so many panels in a row (at least one).
    #[must_use]
    pub fn new(title: impl Into<String>, columns: usize) -> Self {
        Self { title: title.into(), columns: columns.max(1), panels: Vec::new() }
    }

    /// Adds a panel.
    #[must_use]
    pub fn with(mut self, panel: Panel) -> Self {
        self.panels.push(panel);
        self
    }

    /// Draws the figure.
    #[must_use]
    pub fn render(&self) -> Canvas {
        let columns = self.columns.min(self.panels.len()).max(1);
        let rows = self.panels.len().div_ceil(columns);
        let header = if self.title.is_empty() { 0 } else { TEXT_HEIGHT * TITLE_SCALE + MARGIN };
        let mut canvas =
            Canvas::new(columns * PANEL.0 + 2 * MARGIN, rows * PANEL.1 + header + 2 * MARGIN, Colour::WHITE);
        canvas.text(2 * MARGIN, MARGIN, &self.title, TITLE_SCALE, Colour::INK);
        for (place, panel) in self.panels.iter().enumerate() {
            let corner = (MARGIN + place % columns * PANEL.0, MARGIN + header + place / columns * PANEL.1);
            panel::draw(panel, &mut canvas, corner, PANEL);
        }
        canvas
    }

    /// Draws the figure and encodes it.
    ///
    /// # Errors
    /// [`EvalError::Png`] for a figure beyond PNG's limits.
    pub fn to_png(&self) -> Result<Vec<u8>, EvalError> {
        self.render().to_png()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[(f64, f64)]) -> Series {
        Series::new("a", points.to_vec(), Colour::BLUE, Style::Line)
    }

    fn count_of(canvas: &Canvas, colour: Colour) -> usize {
        canvas.pixels().chunks_exact(3).filter(|pixel| *pixel == colour.0).count()
    }

    #[test]
    fn a_rising_line_goes_from_the_lower_left_to_the_upper_right() {
        let canvas = Figure::new("", 1).with(Panel::new("", "x").with(line(&[(0.0, 0.0), (10.0, 1.0)]))).render();
        let places: Vec<(usize, usize)> = canvas
            .pixels()
            .chunks_exact(3)
            .enumerate()
            .filter(|(_, pixel)| *pixel == Colour::BLUE.0)
            .map(|(place, _)| (place % canvas.width(), place / canvas.width()))
            .collect();
        // The sample in the legend is of the same colour and stands above the axes.
        let within: Vec<_> = places.iter().filter(|(_, y)| *y > 80).collect();
        let left = within.iter().min_by_key(|(x, _)| x).map_or(0, |(_, y)| *y);
        let right = within.iter().max_by_key(|(x, _)| x).map_or(0, |(_, y)| *y);
        assert!(within.len() > 300 && left > right + 150, "{} pixels, {left} to {right}", within.len());
    }

    #[test]
    fn values_that_are_no_numbers_break_the_line_and_nothing_else() {
        let whole = [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (4.0, 1.0)];
        let mut broken = whole;
        broken[2].1 = f64::NAN;
        let ink = |points: &[(f64, f64)]| {
            count_of(&Figure::new("", 1).with(Panel::new("", "").with(line(points))).render(), Colour::BLUE)
        };
        assert!(ink(&broken) < ink(&whole) * 3 / 4 && ink(&broken) > ink(&whole) / 4);
    }

    #[test]
    fn a_panel_without_a_number_says_so_instead_of_failing() {
        for points in [&[][..], &[(0.0, f64::NAN)], &[(f64::INFINITY, 1.0)]] {
            let canvas = Figure::new("t", 2).with(Panel::new("p", "x").with(line(points))).render();
            assert!(count_of(&canvas, Colour::SOFT_INK) > 0);
        }
    }

    #[test]
    fn one_outlier_of_a_faint_series_does_not_flatten_the_panel() {
        let mut raw: Vec<(f64, f64)> = (0..1000).map(|x| (f64::from(x), f64::from(x % 10))).collect();
        raw[500].1 = 1e9;
        let smooth = raw.iter().map(|(x, _)| (*x, 4.5)).collect();
        let panel = Panel::new("", "").with(Series::new("raw", raw, Colour::BLUE, Style::Faint)).with(Series::new(
            "mean",
            smooth,
            Colour::ORANGE,
            Style::Line,
        ));
        let (low, high) = panel::y_range(&panel);
        assert!(low > -2.0 && high < 12.0, "{low} to {high}");
    }

    #[test]
    fn the_png_decodes_to_the_drawn_pixels() -> Result<(), Box<dyn std::error::Error>> {
        let figure = Figure::new("t", 1).with(Panel::new("p", "x").with(line(&[(0.0, 0.0), (1.0, 2.0)])));
        let mut reader = png::Decoder::new(std::io::Cursor::new(figure.to_png()?)).read_info()?;
        let mut decoded = vec![0; reader.output_buffer_size().ok_or("too large")?];
        let info = reader.next_frame(&mut decoded)?;
        let canvas = figure.render();
        assert_eq!((info.width as usize, info.height as usize), (canvas.width(), canvas.height()));
        assert_eq!(decoded, canvas.pixels());
        Ok(())
    }
}
