//! The settings, their sources and their faults.
//!
//! [`settings`] is the table of all settings with type, default and documentation. [`load()`]
//! merges the sources (defaults < file < environment < flags) and reports *every* fault at once.
//! [`check`] checks relations between settings.
//!
//! Values are text until their type parses them, so a password or prefix of digits stays unchanged.

pub mod check;
pub mod dump;
pub mod environment;
pub mod fault;
mod file;
pub mod ledger_url;
pub mod load;
mod password;
mod reader;
mod setting;
pub mod settings;
mod table;
pub mod value;

pub use fault::{Fault, Faults, SettingOrigin};
pub use ledger_url::{LedgerUrl, Server};
pub use load::{Flag, Loaded, Sources, load, read};
pub use settings::{Admin, Config, Ens, Grpc, Ledger, Limit, Log, Tracker, Watch};
pub use value::{AuditOutput, LogFormat};
