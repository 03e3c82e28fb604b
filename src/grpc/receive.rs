//! Bounds on the receipt of a request's messages, before a handler knows of the call.
//!
//! The trap: tonic reads the whole message before it calls the handler, so a call whose message
//! never ends costs memory that no later limit counts. The bounds here are the time until the end
//! of the request, its size, and the number and size of all requests that are arriving at once.
//! Beyond these the oldest is refused: a client sends a request in one piece, so an old one is a
//! bad one.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use prost::bytes::Bytes;
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::body::Body;

use crate::listen::HeldCall;
use crate::model::Failure;
use crate::sync::{ByAge, ByteSum, CountedBytes, Place};

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
const MOST: usize = 8 * 1024;
/// Maximum size of what has arrived of unfinished requests, in bytes. A request of usual size has
/// 200 bytes.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The requests that are arriving.
#[derive(Debug, Clone, Default)]
pub(super) struct Arriving {
    requests: ByAge<()>,
    /// What has arrived of them.
    bytes: ByteSum,
}

impl Arriving {
    /// The request with bounds on its body. The oldest unfinished request is refused if there are
    /// too many. `held` lasts until the request has arrived.
    pub(super) fn bound(&self, request: Request<Body>, held: Option<HeldCall>) -> Request<Body> {
        let path = request.uri().path();
        let time = if path.starts_with("/grpc.reflection.") { MESSAGES } else { ONE_MESSAGE };
        let most = if is_diagnostic(path) { MAX_DIAGNOSTIC } else { MAX_REQUEST + MESSAGE_HEADER };
        let place = self.requests.insert((), |requests| {
            if requests.len() >= MOST {
                requests.close_oldest(|_| true);
            }
        });
        let (due, arrived) = (Box::pin(sleep(time)), self.bytes.part(0));
        let arriving = self.clone();
        request.map(|body| {
            Body::new(Received { body, due, most, arrived, place, arriving, _held: held })
        })
    }

    /// Refuses the oldest if too much has arrived of all.
    fn make_room(&self) {
        if self.bytes.get() > MOST_BYTES {
            self.requests.with(|requests| requests.close_oldest(|_| true));
        }
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
    /// Maximum size in bytes.
    most: usize,
    /// What has arrived of it: its part of the sum in `arriving`.
    arrived: CountedBytes,
    place: Place<()>,
    arriving: Arriving,
    _held: Option<HeldCall>,
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
            self.arrived.add(frame.data_ref().map_or(0, Bytes::len));
            self.arriving.make_room();
            if self.arrived.size() > self.most {
                let failure =
                    Failure::invalid_field("request", "is larger than the gateway accepts");
                return Poll::Ready(Some(Err(failure.into())));
            }
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt as _;

    use super::*;

    /// A request of which so much has arrived, and no more comes.
    struct Part(Option<Bytes>);

    impl HttpBody for Part {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.0.take().map_or(Poll::Pending, |data| Poll::Ready(Some(Ok(Frame::data(data)))))
        }
    }

    async fn next(request: &mut Request<Body>) -> Option<Result<Frame<Bytes>, Status>> {
        poll_fn(|cx| Pin::new(request.body_mut()).poll_frame(cx)).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_is_refused_when_too_much_is_unfinished() {
        let arriving = Arriving::default();
        let part = Bytes::from(vec![0; MAX_REQUEST]);
        let mut requests = Vec::new();
        for _ in 0..=MOST_BYTES / MAX_REQUEST {
            let body = Body::new(Part(Some(part.clone())));
            let mut request = arriving.bound(Request::new(body), None);
            next(&mut request).await.unwrap().unwrap();
            requests.push(request);
        }
        let refused = next(&mut requests[0]).now_or_never().flatten().unwrap().unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(next(&mut requests[1]).now_or_never().is_none(), "the others are awaited");
        drop(requests);
        assert_eq!(arriving.bytes.get(), 0);
    }
}
