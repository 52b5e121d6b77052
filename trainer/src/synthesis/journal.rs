//! `tokens.jsonl`: what was asked for, then the grid of each picture that is there. What a killed run goes on by.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use raygen_model::model::Model;
use serde::{Deserialize, Serialize};

use super::{Job, Task};

/// Its name.
const FILE: &str = "tokens.jsonl";

/// A line for a picture: a token file, and which picture it is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grid {
    picture: String,
    height: usize,
    width: usize,
    mask_token_id: u32,
    token_ids: Vec<u32>,
}

/// The grids in `out`, by their pictures.
///
/// # Errors
/// The file is not there, or holds what is no grid.
pub(super) fn grids(out: &Path) -> Result<BTreeMap<String, Vec<u32>>> {
    let path = out.join(FILE);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let lines = text.lines().skip(1).map(|line| {
        let grid: Grid = serde_json::from_str(line).with_context(|| path.display().to_string())?;
        Ok((grid.picture, grid.token_ids))
    });
    lines.collect()
}

/// The file, open at its end.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    there: HashSet<String>,
}

// === impl Grid ===

impl Grid {
    pub(super) fn of(model: &Model, job: &Job<'_>, token_ids: Vec<u32>) -> Self {
        let info = model.info();
        Self {
            picture: job.path(),
            height: info.grid_height,
            width: info.grid_width,
            mask_token_id: info.mask_token_id,
            token_ids,
        }
    }
}

// === impl Journal ===

impl Journal {
    /// Opens the file in `out`, or begins it. A torn last line, as a kill leaves it, is cut off.
    pub(super) fn open(out: &Path, task: &Task) -> Result<Self> {
        let path = out.join(FILE);
        let named = || path.display().to_string();
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).with_context(named)?;
        let text = io::read_to_string(&file).with_context(named)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).with_context(named)?;
        let mut lines = text[..whole].lines();
        let there = match lines.next() {
            None => {
                writeln!(file, "{}", serde_json::to_string(task)?).with_context(named)?;
                HashSet::new()
            }
            Some(first) => {
                if serde_json::from_str::<Task>(first).ok().as_ref() != Some(task) {
                    bail!(
                        "{} holds pictures of another bundle, manifest or setting; give another --out, or remove it",
                        out.display()
                    );
                }
                lines
                    .map(|line| {
                        let grid: Grid = serde_json::from_str(line).with_context(|| {
                            format!("{}: a line is not a grid; remove {} and begin anew", named(), out.display())
                        })?;
                        Ok(grid.picture)
                    })
                    .collect::<Result<_>>()?
            }
        };
        let there = there.into_iter().filter(|picture| out.join(picture).is_file()).collect();
        Ok(Self { path, file, there })
    }

    /// Whether a picture and its grid are there.
    pub(super) fn has(&self, picture: &str) -> bool {
        self.there.contains(picture)
    }

    /// Adds a picture, whose file is written already.
    pub(super) fn add(&mut self, grid: Grid) -> Result<()> {
        let line = serde_json::to_string(&grid)?;
        // In one piece, so that a kill leaves a torn line at most.
        let written = self.file.write_all(format!("{line}\n").as_bytes());
        written.map_err(|error| crate::run::disk::named(&self.path, &error))?;
        self.there.insert(grid.picture);
        Ok(())
    }
}
