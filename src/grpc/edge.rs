//! The layer around every request: the rules of HTTP, the trace of an RPC, its caller, its
//! deadline, and bounds on the receipt of the request and on the time that its answer waits.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use prost::bytes::Bytes;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::{Instrument, Span};

use super::access::{Access, CallerCredentials};
use super::deadline::Deadline;
use super::explain::explain;
use super::failure_log::FailureLog;
use super::http_rules::refusal;
use super::method::Method;
use super::receive::{Arriving, is_diagnostic};
use super::trace::{Call, Observers};
use crate::admission::{Admission, AdmissionPermit, Peer};
use crate::identity::Kind;
use crate::listen::{ConnectionRef, HeldCall, OpenCall};
use crate::model::Failure;

/// The RPC of probes. It is answered at once, so it takes no place: streams of the same services
/// that are held open cannot make a probe fail.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// Size of an answer, in bytes. The handlers of RPCs with large answers set it.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnswerSize(pub(super) usize);

impl AnswerSize {
    /// That of an answer about one attachment.
    const USUAL: Self = Self(512);
}

/// The layer.
#[derive(Debug, Clone)]
pub(super) struct EdgeLayer {
    observers: Observers,
    admission: Arc<Admission>,
    access: Arc<Access>,
    arriving: Arriving,
    failures: FailureLog,
}

impl EdgeLayer {
    pub(super) fn new(
        observers: Observers,
        admission: Arc<Admission>,
        access: Arc<Access>,
    ) -> Self {
        let (arriving, failures) = (Arriving::default(), FailureLog::default());
        Self { observers, admission, access, arriving, failures }
    }
}

impl<S> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Edge { inner, layer: self.clone() }
    }
}

/// The service of [`EdgeLayer`].
#[derive(Debug, Clone)]
pub(super) struct Edge<S> {
    inner: S,
    layer: EdgeLayer,
}

impl<S> Service<Request<Body>> for Edge<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if let Some(refused) = refusal(&request) {
            return Box::pin(std::future::ready(Ok(refused)));
        }
        let other = self.inner.clone();
        // The service that was polled is the one that is ready.
        let inner = std::mem::replace(&mut self.inner, other);
        let layer = self.layer.clone();
        // Health and reflection have no span: probes would outnumber the calls.
        let traced = !is_diagnostic(request.uri().path());
        let begin = || Call::begin(&request, &layer.observers, layer.failures.clone());
        let call = traced.then(begin);
        let span = call.as_ref().map_or_else(Span::none, |call| call.span.clone());
        Box::pin(async move { Ok(layer.serve(inner, request, call).await) }.instrument(span))
    }
}

impl EdgeLayer {
    async fn serve<S>(
        self,
        inner: S,
        request: Request<Body>,
        mut call: Option<Call>,
    ) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let connection = request.extensions().get::<ConnectionRef>();
        let peer = connection.map_or(Peer::LOCAL, Peer::from);
        let mut open = connection.map(OpenCall::on);
        let mut held = connection.map(HeldCall::on);
        let path = request.uri().path();
        let method = Method::of_path(path);
        let is_unary = method.is_some_and(|method| !method.is_streaming()) || path == HEALTH_CHECK;
        // A unary call is its peer's until its request has arrived.
        let arriving = held.take_if(|_| is_unary);
        let (response, place) = match self.answer(inner, request, arriving, peer, method).await {
            Ok(answer) => answer,
            Err(failure) => (Status::from(failure).into_http(), None),
        };
        let response = explain(response);
        // A refusal has no body; its status is in the headers.
        if let Some(call) = &mut call {
            call.see(response.headers());
        }
        if let Some(open) = open.as_mut().filter(|_| is_unary) {
            let size = response.extensions().get().copied().unwrap_or(AnswerSize::USUAL);
            open.mark_answered(size.0);
        }
        response.map(|body| {
            Body::new(AnswerBody { body, call, _place: place, _held: held, _open: open })
        })
    }

    /// The answer within the caller's deadline. Unary calls begin in turn; a stream that is opened
    /// waits among the reads.
    async fn answer<S>(
        &self,
        inner: S,
        request: Request<Body>,
        arriving: Option<HeldCall>,
        peer: Peer,
        method: Option<Method>,
    ) -> Result<(Response<Body>, Option<AdmissionPermit>), Failure>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let deadline = Deadline::new(request.headers())?;
        let is_queued = method.is_some_and(|method| !method.is_streaming());
        let request = self.arriving.bound(request, arriving);
        // Passed on by reference: each future that took it would hold a copy of it.
        let call = pin!(self.call(inner, request, peer, deadline));
        if is_queued {
            deadline.bound(method, self.admission.in_turn(peer, call)).await?
        } else {
            deadline.bound(method, call).await?
        }
    }

    async fn call<S>(
        &self,
        mut inner: S,
        mut request: Request<Body>,
        peer: Peer,
        deadline: Deadline,
    ) -> Result<(Response<Body>, Option<AdmissionPermit>), Failure>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let caller = CallerCredentials::take(&mut request);
        // In a box, because the call is kept longer than this, and unfinished calls add up.
        let principal = Box::pin(self.access.identify(caller)).await?;
        let peer = match principal.kind {
            Kind::Anonymous => peer,
            _ => peer.identified_as(&principal.name),
        };
        let path = request.uri().path();
        let place = if is_diagnostic(path) && path != HEALTH_CHECK {
            // No other limit counts it.
            Some(self.admission.diagnostic(peer).await?)
        } else {
            None
        };
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(principal);
        request.extensions_mut().insert(deadline);
        let Ok(response) = inner.call(request).await;
        Ok((response, place))
    }
}

/// The body of a response with its RPC, which ends when it is dropped.
struct AnswerBody {
    body: Body,
    call: Option<Call>,
    _place: Option<AdmissionPermit>,
    _held: Option<HeldCall>,
    _open: Option<OpenCall>,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, call, .. } = &mut *self;
        let Some(call) = call else {
            return Pin::new(body).poll_frame(cx);
        };
        // A stream's producer runs in here, long after the handler. The body of another call is
        // complete.
        let entered = call.is_stream().then(|| call.span.enter());
        let frame = ready!(Pin::new(body).poll_frame(cx));
        drop(entered);
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    call.see(trailers);
                }
            }
            Some(Err(status)) => call.end(status),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
