//! The demo: the real gateway and a simulated ENS in one process, many callers, and what ENS's own books say in the end.
//!
//! [`board`] and [`summary`] are pure and make text; [`screen`] is where it goes; `stage` is what it runs on.

pub mod args;
pub mod board;
mod caller;
pub mod event;
mod next;
mod run;
pub mod screen;
mod stage;
pub mod summary;

pub use args::Args;
pub use board::Board;
pub use event::{Event, Phase};
pub(super) use run::run;
pub use screen::Screen;
pub use summary::{Books, Held, Summary};
