//! Gives a reason to the refusals that tonic makes by itself before a handler runs: a request too large, or one that is no message
//! of the API. Its codes for them, OUT_OF_RANGE and INTERNAL, would tell callers that the fault is not theirs.

use http::Response;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::model::Failure;

/// Replaces such a refusal by `INVALID_FIELD`, and lets everything else pass.
pub(super) fn explain(response: Response<Body>) -> Response<Body> {
    // Only a refusal has its status in the headers; what handlers refuse has details.
    let Some(status) = Status::from_header_map(response.headers()).filter(|status| status.details().is_empty()) else {
        return response;
    };
    let problem = match status.code() {
        Code::OutOfRange => "is larger than the gateway takes",
        Code::Internal => "cannot be decoded",
        _ => return response,
    };
    Status::from(Failure::invalid_field("request", problem)).into_http()
}
