//! `PageNumber` and `PageSize`.

use super::{Params, Refusal};

/// The requested page.
pub(super) struct Page {
    /// Its number, from 1.
    pub(super) number: usize,
    /// Maximum number of rows.
    pub(super) size: usize,
}

impl Page {
    /// The requested page. A size above `most` becomes `most`, and the answer shows it.
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
