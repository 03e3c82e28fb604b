//! Generated code. The comments in `proto/` are the reference.
#![allow(clippy::all, clippy::large_futures, reason = "generated")]

tonic::include_proto!("eni.gateway.v1");

/// The API's descriptors with their imports, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
