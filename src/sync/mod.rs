//! Shared primitives of tasks: a watch channel, a map of values in use, a table of them by age.

mod by_age;
pub mod watch;
mod weak_map;

pub use by_age::{ByAge, Entries, Entry, Place};
pub use weak_map::WeakMap;
