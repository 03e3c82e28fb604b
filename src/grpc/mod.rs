//! The edge: everything that knows gRPC. A call passes [`server`] (TCP, TLS, HTTP/2), the layers [`trace`] and `deadline`, then
//! [`service`], which parses it, asks for admission and hands it on; [`errors`] says what went wrong.
//!
//! Generated protobuf types stay in here and in the command-line clients.

pub mod errors;
pub mod health;
pub mod proto;
pub mod server;
pub mod service;
pub mod tls;
pub mod trace;

mod accept;
mod code;
mod convert;
mod deadline;
mod explain;
mod method;
mod page;
mod parse;

pub use code::code_name;
pub use health::Health;
pub use server::Server;
pub use service::AttachmentService;
pub use tls::Tls;
