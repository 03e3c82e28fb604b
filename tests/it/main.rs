//! Integration tests, in one binary whose modules mirror `src`.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the message")]

mod ledger;
mod support;
