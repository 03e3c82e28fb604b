//! The settings: what they are, where they come from, and what is wrong with them.
//!
//! [`settings`] is the one table: every setting with its type, default and documentation. [`load()`] lays the sources over one
//! another (defaults < file < environment < flags) and reports *every* fault at once; [`check`] holds what must be true of several
//! settings together.
//!
//! All values are text until their own type reads them: a password or a prefix that is made of digits stays what it is.

pub mod check;
pub mod dump;
mod environment;
pub mod fault;
mod file;
pub mod ledger_url;
pub mod load;
mod password;
pub mod settings;
mod table;
pub mod value;

pub use fault::{Fault, Faults, Origin};
pub use ledger_url::{LedgerUrl, Server};
pub use load::{Flag, Loaded, Sources, load};
pub use settings::{Admin, Config, Ens, Grpc, Ledger, Limit, Tracker, Watch};
