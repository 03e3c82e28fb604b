//! The demo: the real gateway and a simulated ENS in one process, many callers, and the result by
//! ENS's journal.
//!
//! [`status_table`] and [`summary`] are pure and make text; [`screen`] shows it; `env` has the
//! servers.

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
pub use event::{CallerPhase, DemoEvent};
pub(super) use run::run;
pub use screen::Screen;
pub use status_table::StatusTable;
pub use summary::{JournalSummary, OccupiedSlots, Summary};
