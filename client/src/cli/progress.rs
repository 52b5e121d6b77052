//! Shows a generation while it runs: redrawn in place on a terminal, a plain line now and then elsewhere.

use std::{collections::BTreeMap, time::Instant};

use console::Term;
use raygen_client::Progress;

use super::{
    grid_view::{GridView, Ink},
    output::Output,
};

/// Columns between two grids.
const GAP: usize = 2;
/// Columns of the bar under the grids.
const BAR: usize = 24;
/// Plain lines for each picture.
const PLAIN_LINES: u32 = 4;

/// Where progress goes.
#[derive(Debug)]
enum Target {
    /// A terminal that can redraw.
    Screen { term: Term, ink: Ink, drawn_lines: usize },
    /// A log.
    Lines,
    /// Nowhere: the JSON lines tell.
    Silent,
}

/// The pictures in progress.
#[derive(Debug)]
pub(crate) struct ProgressDisplay {
    target: Target,
    started: Instant,
    pictures: BTreeMap<u32, Picture>,
    output: Output,
}

#[derive(Debug, Default)]
struct Picture {
    view: GridView,
    step: u32,
    step_count: u32,
}

impl ProgressDisplay {
    pub(crate) fn new(output: Output) -> Self {
        let term = Term::stderr();
        let dumb = std::env::var_os("TERM").is_none_or(|name| name == "dumb");
        let target = if output.is_json() {
            Target::Silent
        } else if term.is_term() && (!dumb || cfg!(windows)) {
            let ink = if console::colors_enabled_stderr() { Ink::Colour } else { Ink::Shade };
            // Put back by Drop, also after Ctrl-C.
            let _ = term.hide_cursor();
            Target::Screen { term, ink, drawn_lines: 0 }
        } else {
            Target::Lines
        };
        Self { target, started: Instant::now(), pictures: BTreeMap::new(), output }
    }

    /// Whether grids are worth sending.
    pub(crate) fn wants_grids(&self) -> bool {
        !matches!(self.target, Target::Silent)
    }

    /// A step of a picture finished.
    pub(crate) fn step(&mut self, progress: &Progress) {
        let picture = self.pictures.entry(progress.sample_index).or_default();
        picture.view.update(&progress.grid);
        (picture.step, picture.step_count) = (progress.step, progress.step_count);
        match self.target {
            Target::Screen { .. } => self.draw(),
            Target::Lines => self.plain_line(progress.sample_index),
            Target::Silent => {}
        }
    }

    /// Leaves the last state standing, everything decided.
    pub(crate) fn finish(&mut self) {
        self.pictures.values_mut().for_each(|picture| picture.view.settle());
        self.draw();
        if let Target::Screen { drawn_lines, .. } = &mut self.target {
            *drawn_lines = 0;
        }
    }

    fn draw(&mut self) {
        let Target::Screen { term, ink, drawn_lines } = &mut self.target else { return };
        let (rows, columns) = term.size();
        let mut lines = side_by_side(&self.pictures, *ink, usize::from(columns), usize::from(rows));
        lines.push(status(&self.pictures, self.started, usize::from(columns)));
        let mut frame = String::new();
        if *drawn_lines > 0 {
            frame.push_str(&format!("\u{1b}[{drawn_lines}A\r"));
        }
        for line in &lines {
            // Cleared to the end of the line, not before: nothing flickers.
            frame.push_str(line);
            frame.push_str("\u{1b}[K\n");
        }
        if *drawn_lines > lines.len() {
            // The terminal was made smaller.
            frame.push_str("\u{1b}[J");
        }
        *drawn_lines = lines.len();
        let _ = term.write_str(&frame);
    }

    fn plain_line(&self, sample_index: u32) {
        let Some(picture) = self.pictures.get(&sample_index) else { return };
        let interval = picture.step_count.div_ceil(PLAIN_LINES).max(1);
        if picture.step % interval != 0 && picture.step != picture.step_count {
            return;
        }
        let (decided, all) = picture.view.decided();
        let seconds = self.started.elapsed().as_secs_f64();
        let name = if self.pictures.len() > 1 { format!("picture {sample_index}: ") } else { String::new() };
        let (step, step_count) = (picture.step, picture.step_count);
        self.output
            .note(&format!("{name}step {step} of {step_count}, {decided} of {all} tokens decided, {seconds:.1} s"));
    }
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        if let Target::Screen { term, .. } = &self.target {
            let _ = term.show_cursor();
        }
    }
}

/// As many grids beside each other as the terminal is wide; none if it is too low for them.
fn side_by_side(pictures: &BTreeMap<u32, Picture>, ink: Ink, columns: usize, rows: usize) -> Vec<String> {
    let Some(first) = pictures.values().next() else { return Vec::new() };
    let (width, height) = first.view.size(ink);
    let fitting = ((columns + GAP) / (width + GAP)).max(usize::from(width <= columns));
    if fitting == 0 || height + 2 > rows {
        return Vec::new();
    }
    let mut lines = vec![String::new(); height];
    for (place, picture) in pictures.values().take(fitting).enumerate() {
        let grid = picture.view.lines(ink);
        for (row, line) in lines.iter_mut().enumerate() {
            if place > 0 {
                line.push_str(&" ".repeat(GAP));
            }
            line.push_str(grid.get(row).map_or("", String::as_str));
        }
    }
    lines
}

/// `step 5 of 12  ━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌  0.8 s`: of the picture that is furthest behind.
fn status(pictures: &BTreeMap<u32, Picture>, started: Instant, columns: usize) -> String {
    let slowest = pictures.values().min_by_key(|picture| picture.step);
    let (step, step_count) = slowest.map_or((0, 0), |picture| (picture.step, picture.step_count));
    let filled = (BAR as u64 * u64::from(step.min(step_count)) / u64::from(step_count.max(1))) as usize;
    let bar = format!("{}{}", "━".repeat(filled), "╌".repeat(BAR - filled));
    let count = if pictures.len() > 1 { format!("  {} pictures", pictures.len()) } else { String::new() };
    let seconds = started.elapsed().as_secs_f64();
    let line = format!("step {step} of {step_count}  {bar}  {seconds:.1} s{count}");
    line.chars().take(columns.saturating_sub(1)).collect()
}

#[cfg(test)]
mod tests {
    use raygen_client::wire::TokenGrid;

    use super::*;

    fn pictures(count: u32) -> BTreeMap<u32, Picture> {
        let grid = TokenGrid { height: 4, width: 4, token_ids: vec![1; 16], mask_token_id: 9 };
        let picture = |step| {
            let mut picture = Picture { step, step_count: 12, ..Picture::default() };
            picture.view.update(&grid);
            picture
        };
        (0..count).map(|index| (index, picture(6 + index))).collect()
    }

    #[test]
    fn grids_stand_beside_each_other_as_far_as_the_terminal_is_wide() {
        let wide = side_by_side(&pictures(3), Ink::Shade, 80, 24);
        assert_eq!((wide.len(), wide[0].chars().count()), (4, 3 * 8 + 2 * GAP));
        let narrow = side_by_side(&pictures(3), Ink::Shade, 19, 24);
        assert_eq!(narrow[0].chars().count(), 2 * 8 + GAP);
    }

    #[test]
    fn a_terminal_too_small_for_a_grid_shows_the_step_alone() {
        assert!(side_by_side(&pictures(1), Ink::Colour, 3, 24).is_empty());
        assert!(side_by_side(&pictures(1), Ink::Colour, 80, 3).is_empty());
        let line = status(&pictures(2), Instant::now(), 80);
        assert!(line.starts_with("step 6 of 12  ━━━━━━━━━━━━╌"), "{line}");
        assert_eq!(status(&pictures(1), Instant::now(), 10).chars().count(), 9);
    }
}
