//! The demo: the real gateway and a simulated ENS in one process, many callers, and what ENS's own books say in the end.
//!
//! [`status_table`] and [`summary`] are pure and make text; [`screen`] is where it goes; `env` is what it runs on.

pub mod args;
mod caller;
mod env;
pub mod event;
mod next;
mod run;
pub mod screen;
pub mod status_table;
pub mod summary;

pub use args::Args;
pub use event::{Event, Phase};
pub(super) use run::run;
pub use screen::Screen;
pub use status_table::StatusTable;
pub use summary::{JournalSummary, OccupiedSlots, Summary};
