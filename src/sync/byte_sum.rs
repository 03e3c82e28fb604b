//! The size of all things in use, in bytes, as a sum that each takes part in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A sum of sizes. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct ByteSum(Arc<AtomicUsize>);

/// The size of one thing, which is part of the sum until it is dropped.
#[derive(Debug)]
pub struct CountedBytes {
    size: usize,
    sum: ByteSum,
}

impl ByteSum {
    /// The sum, in bytes.
    #[must_use]
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// A part of the sum, of this size.
    #[must_use]
    pub fn part(&self, size: usize) -> CountedBytes {
        let mut part = CountedBytes { size: 0, sum: self.clone() };
        part.add(size);
        part
    }
}

impl CountedBytes {
    /// Adds to its size.
    pub fn add(&mut self, size: usize) {
        self.size += size;
        self.sum.0.fetch_add(size, Ordering::AcqRel);
    }

    /// Its size, in bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.sum.0.fetch_sub(self.size, Ordering::AcqRel);
    }
}
