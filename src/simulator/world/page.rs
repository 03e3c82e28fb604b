//! `PageNumber` and `PageSize`.

use super::{Params, Refusal};

/// Which rows of an answer the caller asked for.
pub(super) struct Page {
    /// From 1.
    pub(super) number: usize,
    /// Rows on it, at most.
    pub(super) size: usize,
}

impl Page {
    /// As asked for. A size above `most` becomes `most`, and the answer says so.
    pub(super) fn of(params: &Params, default: usize, most: usize) -> Result<Self, Refusal> {
        let number = params.count("PageNumber", 1)?;
        let size = params.count("PageSize", default)?.min(most);
        Ok(Self { number, size })
    }

    /// Its part of all rows.
    pub(super) fn cut<'a, T>(&self, rows: &'a [T]) -> &'a [T] {
        let start = self.size.saturating_mul(self.number - 1).min(rows.len());
        let end = start.saturating_add(self.size).min(rows.len());
        &rows[start..end]
    }
}
