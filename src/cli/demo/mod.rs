//! What the demo shows: how each caller fares, live, and what ENS's own books say in the end.
//!
//! [`board`] and [`summary`] are pure and make text; [`screen`] is where it goes.

pub mod args;
pub mod board;
pub mod event;
pub mod screen;
pub mod summary;

pub use args::Args;
pub use board::Board;
pub use event::{Event, Phase};
pub use screen::Screen;
pub use summary::{Books, Held, Summary};
