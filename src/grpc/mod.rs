//! The edge: everything that knows gRPC. A call passes [`server`] (TCP, TLS, HTTP/2), [`trace`] and [`deadline`] (layers), then
//! [`service`], which parses it, asks for admission and hands it on; [`errors`] says what went wrong.
//!
//! Generated protobuf types stay in here and in the command-line clients.

mod convert;
mod deadline;
pub mod errors;
pub mod health;
mod page;
mod parse;
pub mod proto;
pub mod server;
pub mod service;
pub mod tls;
pub mod trace;

mod accept;
mod explain;
mod method;

pub use health::Health;
pub use server::Server;
pub use service::AttachmentService;
pub use tls::Tls;
