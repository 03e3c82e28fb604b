//! Shared parts of the tests.

pub(crate) mod authority;
pub(crate) mod clock;
pub(crate) mod collector;
pub(crate) mod ens;
pub(crate) mod ens_faults;
pub(crate) mod front;
pub(crate) mod gateway;
mod hostile_ens;
pub(crate) mod issuer;
pub(crate) mod ledger;
pub(crate) mod link;
pub(crate) mod log;
pub(crate) mod parts;
pub(crate) mod proxy;
pub(crate) mod python;
pub(crate) mod redis;
pub(crate) mod timerless;
