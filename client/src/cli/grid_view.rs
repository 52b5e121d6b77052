//! A token grid as lines of text: undecided, just decided, decided.

use raygen_client::wire::TokenGrid;

/// One position of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Undecided,
    JustDecided,
    Decided,
}

/// Whether the terminal shows colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Two rows to a line: half blocks in 256 colours.
    Colour,
    /// One row to a line: shades of a block, two characters wide.
    Shade,
}

/// What is known of a grid while it fills.
#[derive(Debug, Clone, Default)]
pub(crate) struct GridView {
    width: usize,
    cells: Vec<Cell>,
}

impl GridView {
    /// Takes in the grid after a step. What was undecided before and is not now, was just decided.
    pub(crate) fn update(&mut self, grid: &TokenGrid) {
        let first = self.cells.len() != grid.token_ids.len();
        self.width = grid.width as usize;
        self.cells = (grid.token_ids.iter().enumerate())
            .map(|(place, id)| match self.cells.get(place) {
                _ if *id == grid.mask_token_id => Cell::Undecided,
                Some(Cell::Undecided) => Cell::JustDecided,
                Some(_) => Cell::Decided,
                None if first => Cell::JustDecided,
                None => Cell::Decided,
            })
            .collect();
    }

    /// Shows everything as decided.
    pub(crate) fn settle(&mut self) {
        self.cells.fill(Cell::Decided);
    }

    /// Positions decided, and positions in all.
    pub(crate) fn decided(&self) -> (usize, usize) {
        (self.cells.iter().filter(|cell| **cell != Cell::Undecided).count(), self.cells.len())
    }

    /// Characters across and lines down.
    pub(crate) fn size(&self, ink: Ink) -> (usize, usize) {
        let rows = self.cells.len().div_ceil(self.width.max(1));
        match ink {
            Ink::Colour => (self.width, rows.div_ceil(2)),
            Ink::Shade => (2 * self.width, rows),
        }
    }

    /// The lines, each as wide as [`GridView::size`] says.
    pub(crate) fn lines(&self, ink: Ink) -> Vec<String> {
        let rows: Vec<&[Cell]> = self.cells.chunks(self.width.max(1)).collect();
        match ink {
            Ink::Colour => rows.chunks(2).map(half_blocks).collect(),
            Ink::Shade => rows.iter().map(|row| row.iter().map(|cell| cell.shade()).collect()).collect(),
        }
    }
}

/// Two rows as one line: the upper in the foreground colour, the lower in the background's.
fn half_blocks(pair: &[&[Cell]]) -> String {
    let upper = pair.first().copied().unwrap_or_default();
    let lower = pair.get(1).copied().unwrap_or_default();
    let mut line = String::with_capacity(upper.len() * 20);
    for (place, cell) in upper.iter().enumerate() {
        line.push_str(&format!("\u{1b}[38;5;{}", cell.colour()));
        match lower.get(place) {
            Some(below) => line.push_str(&format!(";48;5;{}m▀", below.colour())),
            None => line.push_str(";49m▀"),
        }
    }
    line.push_str("\u{1b}[0m");
    line
}

impl Cell {
    /// Of the 256-colour palette: dark gray, bright yellow, gray blue.
    fn colour(self) -> u8 {
        match self {
            Self::Undecided => 236,
            Self::JustDecided => 229,
            Self::Decided => 67,
        }
    }

    fn shade(self) -> &'static str {
        match self {
            Self::Undecided => "░░",
            Self::JustDecided => "██",
            Self::Decided => "▒▒",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(token_ids: &[u32]) -> TokenGrid {
        TokenGrid { height: 2, width: 2, token_ids: token_ids.to_vec(), mask_token_id: 9 }
    }

    #[test]
    fn a_position_is_just_decided_for_one_step() {
        let mut view = GridView::default();
        view.update(&grid(&[9, 9, 9, 9]));
        assert_eq!(view.lines(Ink::Shade), ["░░░░", "░░░░"]);
        view.update(&grid(&[9, 4, 9, 9]));
        assert_eq!(view.lines(Ink::Shade), ["░░██", "░░░░"]);
        view.update(&grid(&[9, 4, 1, 9]));
        assert_eq!(view.lines(Ink::Shade), ["░░▒▒", "██░░"]);
        assert_eq!(view.decided(), (2, 4));
    }

    #[test]
    fn two_rows_share_a_line_in_colour() {
        let mut view = GridView::default();
        view.update(&grid(&[9, 4, 1, 9]));
        assert_eq!(view.size(Ink::Colour), (2, 1));
        let lines = view.lines(Ink::Colour);
        assert_eq!(lines, ["\u{1b}[38;5;236;48;5;229m▀\u{1b}[38;5;229;48;5;236m▀\u{1b}[0m"]);
    }

    #[test]
    fn a_grid_that_lies_about_its_size_is_drawn_all_the_same() {
        let mut view = GridView::default();
        view.update(&TokenGrid { height: 7, width: 0, token_ids: vec![1, 9, 1], mask_token_id: 9 });
        assert_eq!(view.lines(Ink::Colour).len(), 2);
        view.update(&TokenGrid { height: 0, width: 5, token_ids: vec![], mask_token_id: 9 });
        assert!(view.lines(Ink::Shade).is_empty());
    }
}
