//! Bounds on the receipt of a request's messages, before a handler knows of the call.
//!
//! The trap: tonic reads the whole message before it calls the handler, so a call whose message
//! never ends costs memory that no later limit counts. Three bounds apply here: the time until the
//! end of the request, its size, and the number of requests that are arriving at once. Beyond that
//! number the oldest is refused: a client sends a request in one piece, so an old one is a bad one.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use prost::bytes::Bytes;
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::body::Body;

use crate::model::Failure;
use crate::sync::{ByAge, Place};

/// Maximum size of a request message of the API, in bytes. Three ids and a token are far below it;
/// an id that is a little too long is named, not cut off.
pub(super) const MAX_REQUEST: usize = 16 * 1024;
/// Maximum size of all messages of one health or reflection call, in bytes.
const MAX_DIAGNOSTIC: usize = 4 * 1024;
/// Size of the header of a gRPC message, in bytes.
const MESSAGE_HEADER: usize = 5;

/// Time until the end of a request, which clients send with its one message.
const ONE_MESSAGE: Duration = Duration::from_secs(5);
/// Time until the end of a request of the reflection service, whose clients keep the request open
/// and send several messages.
const MESSAGES: Duration = Duration::from_secs(60);

/// Maximum number of unfinished requests. A request of usual size is unfinished for less than a
/// millisecond, but the streams of a replica that ended are opened on another one all at once.
const MOST: usize = 16 * 1024;

/// The requests that are arriving.
#[derive(Debug, Clone, Default)]
pub(super) struct Arriving(ByAge<()>);

impl Arriving {
    /// The request with bounds on its body. The oldest unfinished request is refused if there are
    /// too many.
    pub(super) fn bound(&self, request: Request<Body>) -> Request<Body> {
        let path = request.uri().path();
        let time = if path.starts_with("/grpc.reflection.") { MESSAGES } else { ONE_MESSAGE };
        let left = if is_diagnostic(path) { MAX_DIAGNOSTIC } else { MAX_REQUEST + MESSAGE_HEADER };
        let place = self.0.insert((), |requests| {
            if requests.len() >= MOST {
                requests.close_oldest(|_| true);
            }
        });
        request.map(|body| Body::new(Received { body, due: Box::pin(sleep(time)), left, place }))
    }
}

/// Whether the path is of the health or reflection service.
pub(super) fn is_diagnostic(path: &str) -> bool {
    path.starts_with("/grpc.")
}

/// The body of a request, within its bounds.
struct Received {
    body: Body,
    due: Pin<Box<Sleep>>,
    /// Number of bytes that may still arrive.
    left: usize,
    place: Place<()>,
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let size = frame.data_ref().map_or(0, Bytes::len);
            let Some(left) = self.left.checked_sub(size) else {
                let failure =
                    Failure::invalid_field("request", "is larger than the gateway accepts");
                return Poll::Ready(Some(Err(failure.into())));
            };
            self.left = left;
        }
        if frame.is_pending()
            && (self.place.poll_closed(cx).is_ready() || self.due.as_mut().poll(cx).is_ready())
        {
            let failure = Failure::invalid_field(
                "request",
                "did not arrive in time; end it with its message",
            );
            return Poll::Ready(Some(Err(failure.into())));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
