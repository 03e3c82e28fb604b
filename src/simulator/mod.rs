//! A simulator of ENS on the network, on which the official SDK works unchanged. Its journal judges
//! tests.
//!
//! ```text
//!  HTTP ──► server ──► cloud ──► auth       signature and key
//!             │          ├─────► throttle   the account's rate limit
//!             │          ├─────► faults     faults on demand
//!             │          └─────► world      ENS's rules, now and later
//!             └► control                    └► journal   calls and occupancy
//! ```
//!
//! It is independent: it shares no code with the gateway's ENS client, and must never import `ens`
//! or `ledger`.

mod action;
mod args;
pub mod auth;
mod cloud;
mod connection;
mod control;
mod default_world;
mod duration;
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

pub use action::{Action, VERSION};
pub use args::Args;
pub use auth::{AccessKey, KeyState};
pub use cloud::{Answer, Cloud};
pub use duration_range::{DurationRange, InvalidSpread};
pub use faults::{Effect, Fault};
pub use journal::{
    ActionJournal, Call, CallJournal, InstanceJournal, JournalStep, MAX_CALLS, MAX_STEPS,
    PairJournal,
};
pub use params::Params;
pub use refusal::Refusal;
pub use reply::HttpReply;
pub use rules::{InUse, Unattached, UnknownEni, WorldRules};
pub use run::{Error, run};
pub use server::{Handle, Simulator};
pub use settings::Settings;
pub use throttle::{ActionRate, Rate};
pub use world::{Course, EniKind, EniSpec, EniStatus, Instance, Placement, World, WorldFile};
