//! One contract, two ledgers; and what only a real server can show.

mod contract;
mod memory;
mod redis;
