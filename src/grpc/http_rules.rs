//! The rules of gRPC over HTTP. They keep out web pages: a page of another site can make a browser
//! send requests to the gateway, but none of this form.

use http::header::{ALLOW, CONTENT_TYPE, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tonic::body::Body;

/// The answer to a request that is no call of gRPC, or that a browser sent.
pub(super) fn refusal(request: &Request<Body>) -> Option<Response<Body>> {
    let status = refused_with(request.method(), request.headers())?;
    tracing::debug!(method = %request.method(), status = status.as_u16(), "refused a request that is no grpc call");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    }
    Some(response)
}

fn refused_with(method: &Method, headers: &HeaderMap) -> Option<StatusCode> {
    if method != Method::POST {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    // Browsers set both, and pages cannot unset them.
    let cross_site = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"cross-site");
    if headers.contains_key(ORIGIN) || headers.get_all("sec-fetch-site").iter().any(cross_site) {
        return Some(StatusCode::FORBIDDEN);
    }
    let is_grpc = headers.get(CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes()));
    (!is_grpc).then_some(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

/// Whether the type is gRPC's with messages in protobuf; parameters may follow.
fn is_grpc(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    let essence = essence.trim_ascii().to_ascii_lowercase();
    matches!(essence.as_slice(), b"application/grpc" | b"application/grpc+proto")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("POST", &[("content-type", "application/grpc")], None)]
    #[case("POST", &[("content-type", "application/grpc+proto")], None)]
    #[case("POST", &[("content-type", "Application/gRPC; charset=utf-8")], None)]
    #[case("POST", &[("content-type", "application/grpc"), ("sec-fetch-site", "same-origin")], None)]
    #[case("GET", &[("content-type", "application/grpc")], Some(405))]
    #[case("OPTIONS", &[("origin", "http://evil.example")], Some(405))]
    #[case("POST", &[], Some(415))]
    #[case("POST", &[("content-type", "text/plain")], Some(415))]
    #[case("POST", &[("content-type", "application/grpc-web")], Some(415))]
    #[case("POST", &[("content-type", "application/grpc+json")], Some(415))]
    #[case("POST", &[("content-type", "application/grpcx")], Some(415))]
    #[case("POST", &[("content-type", "application/grpc"), ("origin", "null")], Some(403))]
    #[case("POST", &[("content-type", "application/grpc"), ("sec-fetch-site", "Cross-Site")], Some(403))]
    #[case("POST", &[("content-type", "text/plain"), ("origin", "http://evil.example")], Some(403))]
    fn only_calls_of_grpc_pass(
        #[case] method: &str,
        #[case] headers: &[(&'static str, &'static str)],
        #[case] status: Option<u16>,
    ) {
        let headers =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let refused = refused_with(&method.parse().unwrap(), &headers.collect());
        assert_eq!(refused.map(|status| status.as_u16()), status);
    }
}
