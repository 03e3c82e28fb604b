//! One contract for both ledgers, and tests that need a real server.

mod contract;
mod memory;
mod redis;
