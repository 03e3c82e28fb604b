//! A simulator of ENS on the network, faithful enough that the official SDK works against it unchanged, and the judge in tests.
//!
//! ```text
//!  HTTP ──► server ──► cloud ──► auth       is it signed, by a key I know?
//!             │          ├─────► throttle   is it within the account's rate?
//!             │          ├─────► faults     shall something go wrong with it?
//!             │          └─────► world      what ENS's rules say, now and later
//!             └► control                    └► books   what really happened
//! ```
//!
//! It is a second opinion: it shares no code with the gateway's own ENS client, and must never import `ens` or `ledger`.

mod action;
mod args;
pub mod auth;
mod cloud;
mod connection;
mod control;
mod default_world;
mod duration_range;
mod faults;
mod journal;
mod params;
mod refusal;
mod reply;
mod rules;
mod run;
mod server;
mod settings;
mod throttle;
pub mod world;
pub mod world_file;

pub use action::{Action, VERSION};
pub use args::Args;
pub use auth::{AccessKey, KeyState};
pub use cloud::{Answer, Cloud};
pub use duration_range::{DurationRange, InvalidSpread};
pub use faults::{Effect, Fault};
pub use journal::{ActionBook, Call, CallJournal, InstanceBook, JournalStep, MAX_CALLS, MAX_STEPS, PairBook};
pub use params::Params;
pub use refusal::Refusal;
pub use reply::HttpReply;
pub use rules::{InUse, Unattached, UnknownEni, WorldRules};
pub use run::{Error, run};
pub use server::{Handle, Simulator};
pub use settings::Settings;
pub use throttle::{ActionRate, Rate};
pub use world::{Course, EniKind, EniSpec, EniStatus, Instance, Placement, World};
pub use world_file::WorldFile;
