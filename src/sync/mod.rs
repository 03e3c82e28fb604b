//! Shared primitives of tasks: a watch channel, a map of values in use, a table of them by age, the
//! sum of their sizes, and a set of what was noted lately.

mod by_age;
mod byte_sum;
mod once_per_period;
pub mod watch;
mod weak_map;

pub use by_age::{ByAge, Entries, Entry, Place};
pub use byte_sum::{ByteSum, CountedBytes};
pub use once_per_period::OncePerPeriod;
pub use weak_map::WeakMap;
