//! Adds a reason to the errors that tonic returns before a handler runs: a request too large or
//! malformed. tonic's codes OUT_OF_RANGE and INTERNAL would blame the server.

use http::Response;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::model::Failure;

/// Replaces such an error by `INVALID_FIELD`; passes everything else.
pub(super) fn explain(response: Response<Body>) -> Response<Body> {
    // Only a refusal has its status in the headers. Those of handlers have details.
    let Some(status) =
        Status::from_header_map(response.headers()).filter(|status| status.details().is_empty())
    else {
        return response;
    };
    let problem = match status.code() {
        Code::OutOfRange => "is larger than the gateway accepts",
        Code::Internal => "cannot be decoded",
        _ => return response,
    };
    Status::from(Failure::invalid_field("request", problem)).into_http()
}
