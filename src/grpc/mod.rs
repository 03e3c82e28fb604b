//! The edge: generated messages.

pub mod proto;
