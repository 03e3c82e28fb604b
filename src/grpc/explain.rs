//! Adds a reason to the errors that tonic returns before a handler runs: a request too large,
//! malformed or compressed, or an unknown method. tonic's codes OUT_OF_RANGE and INTERNAL would
//! blame the server, and a client repeats an error without a reason.

use http::Response;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::model::{Failure, Reason};

/// The header that holds the details of a status.
const DETAILS: &str = "grpc-status-details-bin";

/// Replaces such an error by `INVALID_FIELD` or `NOT_SUPPORTED`; passes everything else.
pub(super) fn explain(response: Response<Body>) -> Response<Body> {
    // Only a refusal has its status in the headers. Those of handlers have details.
    if response.headers().contains_key(DETAILS) {
        return response;
    }
    let Some(status) = Status::from_header_map(response.headers()) else {
        return response;
    };
    let problem = match status.code() {
        Code::OutOfRange => "is larger than the gateway accepts",
        Code::Internal => "cannot be decoded",
        Code::Unimplemented => {
            let why = match status.message() {
                "" => "the gateway has no such method",
                message => message,
            };
            let why = format!("{why}; the gateway takes uncompressed calls of its own methods");
            return Status::from(Failure::new(Reason::NotSupported, why)).into_http();
        }
        _ => return response,
    };
    Status::from(Failure::invalid_field("request", problem)).into_http()
}
