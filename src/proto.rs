//! The generated messages, client and server of `eni.gateway.v1`. Their documentation is the proto file.

#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]

tonic::include_proto!("eni.gateway.v1");
