//! The gRPC edge. A call passes [`server`] (TCP, TLS, HTTP/2), one layer (`edge`) with its
//! [`trace`], its caller ([`Access`]) and its [`deadline`], then [`service`]. The service
//! [parses](parse) it, checks the caller's right, admits it and passes it on. [`errors`] maps
//! failures to statuses.
//!
//! Only this module and the command-line clients use the generated protobuf types.

pub mod codec;
pub mod deadline;
pub mod errors;
pub mod handshake;
pub mod health;
pub mod method;
pub mod page;
pub mod parse;
pub mod proto;
pub mod server;
pub mod service;
pub mod tls;
pub mod trace;

mod access;
mod attach_audit;
mod client_certs;
mod code;
mod convert;
mod descriptors;
mod edge;
mod explain;
mod failure_log;
mod fields;
mod http_rules;
mod receive;

pub use access::Access;
pub use code::code_name;
pub use descriptors::descriptors;
pub use health::Health;
pub use server::Server;
pub use service::AttachmentService;
pub use tls::Tls;
