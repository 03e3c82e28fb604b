//! What several tests need.

pub(crate) mod ens;
pub(crate) mod gateway;
pub(crate) mod ledger;
pub(crate) mod redis;
