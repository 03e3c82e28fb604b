//! The caller's deadline, as `grpc-timeout` says it, and the promise that *we* answer before it strikes.
//!
//! tonic reads the same header and answers CANCELLED when it strikes, without a reason. So handlers get a deadline that lies a
//! margin before it, and this layer answers for a handler that is late all the same. A stream outlives its handler: its
//! deadline is kept by whoever feeds it.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::method::Method;
use crate::model::{Code, Failure, Reason};

/// A unary call's, if the caller names none.
const DEFAULT: Duration = Duration::from_secs(30);

/// The longest that a unary call gets.
const MAX: Duration = Duration::from_secs(600);

/// Longer than this is taken for none: an `Instant` cannot hold everything that the header can say.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Time for the answer to reach the client before its deadline, unless that is more than half of the timeout.
const MARGIN: Duration = Duration::from_millis(50);

/// The part of `grpc-timeout` by which a client may have rounded it up: 1/80. gRPC's C core (Python, C++, Ruby, PHP) sends a timeout
/// with three significant digits, so up to 1 % more than the caller asked for: 100.001 s as 101 s. Go, Java, Rust and JavaScript send it
/// as it is.
const ROUNDING: u32 = 80;

/// When a call arrived, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    arrived: Instant,
    timeout: Option<Duration>,
}

impl Deadline {
    /// The deadline of a request that passed the layer.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get().copied().unwrap_or_else(|| Self {
            arrived: Instant::now(),
            timeout: None,
        })
    }

    /// When a unary call's answer is due.
    pub(super) fn unary(self) -> Instant {
        let timeout = self.timeout.unwrap_or(DEFAULT).min(MAX);
        self.arrived + timeout - margin(timeout)
    }

    /// When a stream's end is due; `None`: it has no deadline.
    pub(super) fn stream(self) -> Option<Instant> {
        self.timeout.map(|timeout| self.arrived + timeout - margin(timeout))
    }

    /// When the layer answers for a handler that is late.
    fn overdue(self, method: Option<Method>) -> Option<Instant> {
        let timeout = match (self.timeout, method) {
            (Some(timeout), Some(method)) if !method.is_streaming() => timeout.min(MAX),
            (Some(timeout), _) => timeout,
            (None, Some(method)) if !method.is_streaming() => DEFAULT,
            (None, _) => return None,
        };
        Some(self.arrived + timeout - overdue_margin(timeout))
    }
}

/// How long before the end of `grpc-timeout` an answer is due.
fn margin(timeout: Duration) -> Duration {
    (timeout / ROUNDING + MARGIN).min(timeout / 2)
}

/// How long before the end of `grpc-timeout` the layer answers for a late handler: after the handler's answer is due, and before the
/// caller's own deadline, however it was rounded.
fn overdue_margin(timeout: Duration) -> Duration {
    (timeout / ROUNDING + MARGIN / 2).min(timeout / 4)
}

/// Reads `grpc-timeout`: up to eight digits and a unit; a year or more is none.
///
/// # Errors
/// `INVALID_FIELD`.
pub fn parse(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let timeout = value.to_str().ok().and_then(timeout).ok_or_else(|| {
        Failure::invalid_field(
            "grpc-timeout",
            "must be one to eight digits and one of the units H, M, S, m, u, n",
        )
    })?;
    Ok(Some(timeout).filter(|timeout| *timeout <= NEVER))
}

fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Gives each request its [`Deadline`], and answers if nobody else does.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService { inner }
    }
}

/// See [`DeadlineLayer`].
#[derive(Debug, Clone)]
pub(super) struct DeadlineService<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for DeadlineService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let timeout = match parse(request.headers()) {
            Ok(timeout) => timeout,
            Err(failure) => return Box::pin(async { Ok(Status::from(failure).into_http()) }),
        };
        let deadline = Deadline {
            arrived: Instant::now(),
            timeout,
        };
        let method = Method::of_path(request.uri().path());
        request.extensions_mut().insert(deadline);
        let answer = self.inner.call(request);
        match deadline.overdue(method) {
            None => Box::pin(answer),
            Some(overdue) => Box::pin(async move {
                timeout_at(overdue, answer)
                    .await
                    .unwrap_or_else(|_| Ok(Status::from(late(method)).into_http()))
            }),
        }
    }
}

fn late(method: Option<Method>) -> Failure {
    let failure = match method {
        Some(Method::Attach) => Failure::new(
            Reason::OutcomeUnknown,
            "the deadline came before an answer; an attempt that has begun goes on: watch it, or call again, which joins it",
        ),
        _ => Failure::new(
            Reason::CoordinationUnavailable,
            "the deadline came before an answer; call again with a longer one",
        ),
    };
    failure.code(Code::DeadlineExceeded)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1H", Some(Duration::from_secs(3600)))]
    #[case("2M", Some(Duration::from_secs(120)))]
    #[case("3S", Some(Duration::from_secs(3)))]
    #[case("00000004m", Some(Duration::from_millis(4)))]
    #[case("5u", Some(Duration::from_micros(5)))]
    #[case("6n", Some(Duration::from_nanos(6)))]
    #[case("99999999H", Some(Duration::from_secs(99_999_999 * 3600)))]
    #[case("", None)]
    #[case("S", None)]
    #[case("1", None)]
    #[case("1s", None)]
    #[case("-1S", None)]
    #[case("+1S", None)]
    #[case("1.5S", None)]
    #[case("123456789S", None)]
    #[case("1é", None)]
    fn the_header_is_read_strictly(#[case] text: &str, #[case] expected: Option<Duration>) {
        assert_eq!(timeout(text), expected, "{text:?}");
    }

    fn deadline(timeout: Option<Duration>) -> Deadline {
        Deadline {
            arrived: Instant::now(),
            timeout,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_due_a_margin_before() {
        let now = Instant::now();
        let due = |timeout| deadline(timeout).unary() - now;
        assert_eq!(due(None), Duration::from_millis(29_575));
        assert_eq!(due(Some(Duration::from_secs(1))), Duration::from_micros(937_500));
        assert_eq!(due(Some(Duration::from_millis(10))), Duration::from_millis(5));
        assert_eq!(due(Some(Duration::ZERO)), Duration::ZERO);
        assert_eq!(due(Some(NEVER)), MAX - MAX / 80 - MARGIN);
        assert_eq!(deadline(None).stream(), None);
        assert_eq!(deadline(Some(NEVER)).stream(), Some(now + NEVER - NEVER / 80 - MARGIN));
    }

    /// The C core rounds up to a multiple of 10 ms below 10 s, of 100 ms below 100 s, of 1 s below 1000 s.
    #[rstest]
    #[case(5_000, 5_010)]
    #[case(9_999, 10_000)]
    #[case(10_001, 10_100)]
    #[case(12_000, 12_100)]
    #[case(30_000, 30_100)]
    #[case(100_001, 101_000)]
    #[case(110_000, 111_000)]
    #[case(120_000, 121_000)]
    #[tokio::test(start_paused = true)]
    async fn answers_are_due_before_a_deadline_that_was_rounded_up(#[case] asked: u64, #[case] sent: u64) {
        let now = Instant::now();
        let deadline = deadline(Some(Duration::from_millis(sent)));
        let (due, overdue) = (
            deadline.unary(),
            deadline.overdue(Some(Method::Attach)).expect("it has one"),
        );
        let end = now + Duration::from_millis(asked);
        assert!(due + MARGIN <= end, "{:?}", end - due);
        assert!(due < overdue && overdue + MARGIN / 2 <= end, "{:?}", overdue - now);
        assert!(due > now + Duration::from_millis(asked * 97 / 100), "time is wasted");
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_handler_is_answered_for_before_the_deadline() {
        let silent = tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>());
        let mut service = DeadlineLayer.layer(silent);
        let began = Instant::now();
        let request = Request::builder()
            .uri(format!("/{}", Method::Attach.name()))
            .header("grpc-timeout", "100m")
            .body(Body::default())
            .expect("a request");
        let Ok(response) = service.call(request).await;
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(began.elapsed() < Duration::from_millis(100));
    }
}
