//! The edge, over real TCP with real clients; behind it a scripted ledger and a scripted cloud.

mod access;
mod admission;
mod age;
mod attacks;
mod batch;
mod connections;
mod deadline;
mod errors;
mod fakes;
mod fields;
mod fleet;
mod gateway;
mod health;
mod list;
mod python_client;
mod reads;
mod reflection;
mod refusals;
mod stop;
mod tls;
mod tokens;
mod trace;
mod watch;

use tonic::Status;
use tonic_types::StatusExt;

/// The reason of a refusal by the gateway itself.
fn reason(status: &Status) -> String {
    status.get_details_error_info().expect("our own answer").reason
}
