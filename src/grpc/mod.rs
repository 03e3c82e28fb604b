//! The edge: everything that knows gRPC. A call passes [`server`] (TCP, TLS, HTTP/2), the layers [`trace`] and [`deadline`], then
//! [`service`], which [parses](parse) it, asks for admission and hands it on; [`errors`] says what went wrong.
//!
//! Generated protobuf types stay in here and in the command-line clients.

pub mod deadline;
pub mod errors;
pub mod health;
pub mod method;
pub mod page;
pub mod parse;
pub mod proto;
pub mod server;
pub mod service;
pub mod tls;
pub mod trace;

mod accept;
mod code;
mod convert;
mod explain;

pub use code::code_name;
pub use health::Health;
pub use server::Server;
pub use service::AttachmentService;
pub use tls::Tls;
