//! The stack of the pickle machine, with the marks on it.

use super::{error::PickleError, value::Id};

/// Most values on the stack, and marks below them.
const MAX_VALUES: usize = 4 << 20;
const MAX_MARKS: usize = 64 << 10;

#[derive(Default)]
pub(super) struct Stack {
    values: Vec<Id>,
    /// Heights of the stack at which marks lie.
    marks: Vec<usize>,
}

impl Stack {
    pub(super) fn push(&mut self, id: Id) -> Result<(), PickleError> {
        if self.values.len() >= MAX_VALUES {
            return Err(PickleError::Limit { what: "values on its stack", limit: MAX_VALUES as u64 });
        }
        self.values.push(id);
        Ok(())
    }

    pub(super) fn top(&self) -> Result<Id, PickleError> {
        let above_mark = self.values.len() > self.floor();
        self.values.last().filter(|_| above_mark).copied().ok_or_else(|| PickleError::damaged("an empty stack"))
    }

    pub(super) fn pop(&mut self) -> Result<Id, PickleError> {
        let top = self.top()?;
        self.values.pop();
        Ok(top)
    }

    pub(super) fn pop_two(&mut self) -> Result<(Id, Id), PickleError> {
        let second = self.pop()?;
        Ok((self.pop()?, second))
    }

    pub(super) fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, PickleError> {
        let start = self.values.len().checked_sub(count).filter(|start| *start >= self.floor());
        start.map(|start| self.values.split_off(start)).ok_or_else(|| PickleError::damaged("an empty stack"))
    }

    pub(super) fn mark(&mut self) -> Result<(), PickleError> {
        if self.marks.len() >= MAX_MARKS {
            return Err(PickleError::Limit { what: "nested marks", limit: MAX_MARKS as u64 });
        }
        self.marks.push(self.values.len());
        Ok(())
    }

    pub(super) fn pop_to_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| PickleError::damaged("a mark is missing"))?;
        Ok(self.values.split_off(mark))
    }

    /// Drops the top, which may be a mark.
    pub(super) fn discard(&mut self) -> Result<(), PickleError> {
        if self.marks.last() == Some(&self.values.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    /// The height below which the stack belongs to the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }
}
