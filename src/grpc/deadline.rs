//! The caller's deadline (`grpc-timeout`). The gateway answers before it ends.
//!
//! tonic reads the same header, and answers CANCELLED without a reason. So handlers get an earlier
//! deadline, and this layer answers for a late handler. A stream outlives its handler, so its
//! sender keeps the deadline.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::{Instant, timeout_at};

use super::method::Method;
use crate::model::{Code, Failure, Reason};

/// Deadline of a unary call without `grpc-timeout`.
const DEFAULT: Duration = Duration::from_secs(30);

/// Maximum deadline of a unary call.
const MAX: Duration = Duration::from_secs(600);

/// A timeout of at least this long counts as none, because an `Instant` cannot hold every header
/// value.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Bounds of the time for the answer to reach the client before its deadline. Long timeouts can
/// spare more of it, for a client on a busy machine.
const LEAST_MARGIN: Duration = Duration::from_millis(50);
const MOST_MARGIN: Duration = Duration::from_millis(250);

/// Fraction by which a client may have rounded `grpc-timeout` up. gRPC's C core (Python, C++, Ruby,
/// PHP) sends three significant digits, so up to 1 % too much: 100.001 s becomes 101 s. Go, Java,
/// Rust and JavaScript send the exact value.
const ROUNDING: u32 = 80;

/// Arrival of a call, and its timeout.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    arrived: Instant,
    timeout: Option<Duration>,
}

impl Deadline {
    /// The deadline of a request that passed the edge.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Self {
        request
            .extensions()
            .get()
            .copied()
            .unwrap_or_else(|| Self { arrived: Instant::now(), timeout: None })
    }

    /// The time at which a unary call's answer is due.
    pub(super) fn unary(self) -> Instant {
        let timeout = self.timeout.unwrap_or(DEFAULT).min(MAX);
        self.arrived + timeout - margin(timeout)
    }

    /// The time at which a stream must end; `None` without a deadline.
    pub(super) fn stream(self) -> Option<Instant> {
        self.timeout.map(|timeout| self.arrived + timeout - margin(timeout))
    }

    /// The deadline of a call that arrives now with these headers.
    ///
    /// # Errors
    /// As [`parse`].
    pub(super) fn new(headers: &HeaderMap) -> Result<Self, Failure> {
        Ok(Self { arrived: Instant::now(), timeout: parse(headers)? })
    }

    /// The handler's answer, or a failure shortly before the deadline of a late one.
    pub(super) async fn bound<A>(
        self,
        method: Option<Method>,
        answer: impl Future<Output = A>,
    ) -> Result<A, Failure> {
        match self.overdue(method) {
            None => Ok(answer.await),
            Some(overdue) => timeout_at(overdue, answer).await.map_err(|_| late(method)),
        }
    }

    /// The time at which the edge answers for a late handler.
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

/// Time for the answer to reach the client: a fortieth of the timeout, within bounds.
fn delivery(timeout: Duration) -> Duration {
    (timeout / 40).clamp(LEAST_MARGIN, MOST_MARGIN)
}

/// Time between the answer's due time and the end of `grpc-timeout`.
fn margin(timeout: Duration) -> Duration {
    (timeout / ROUNDING + delivery(timeout)).min(timeout / 2)
}

/// Time between the edge's answer and the end of `grpc-timeout`. It is after the handler's due
/// time, and before the caller's deadline, however that was rounded.
fn overdue_margin(timeout: Duration) -> Duration {
    (timeout / ROUNDING + delivery(timeout) / 2).min(timeout / 4)
}

/// Reads `grpc-timeout`: up to eight digits and a unit. A year or more counts as none.
///
/// # Errors
/// `INVALID_FIELD` if the header is malformed.
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

fn late(method: Option<Method>) -> Failure {
    let failure = match method {
        Some(Method::Attach | Method::AttachBatch) => Failure::new(
            Reason::OutcomeUnknown,
            "the deadline ended before an answer; an attempt in flight continues: watch it, or \
             call again, which joins it",
        ),
        _ => Failure::new(
            Reason::CoordinationUnavailable,
            "the deadline ended before an answer; retry with a longer deadline",
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
        Deadline { arrived: Instant::now(), timeout }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_due_a_margin_before() {
        let now = Instant::now();
        let due = |timeout| deadline(timeout).unary() - now;
        assert_eq!(due(None), Duration::from_millis(29_375));
        assert_eq!(due(Some(Duration::from_secs(1))), Duration::from_micros(937_500));
        assert_eq!(due(Some(Duration::from_millis(10))), Duration::from_millis(5));
        assert_eq!(due(Some(Duration::ZERO)), Duration::ZERO);
        assert_eq!(due(Some(NEVER)), MAX - MAX / 80 - MOST_MARGIN);
        assert_eq!(deadline(None).stream(), None);
        assert_eq!(deadline(Some(NEVER)).stream(), Some(now + NEVER - NEVER / 80 - MOST_MARGIN));
    }

    /// The C core rounds up to a multiple of 10 ms below 10 s, of 100 ms below 100 s, of 1 s below
    /// 1000 s.
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
    async fn answers_are_due_before_a_deadline_that_was_rounded_up(
        #[case] asked: u64,
        #[case] sent: u64,
    ) {
        let now = Instant::now();
        let deadline = deadline(Some(Duration::from_millis(sent)));
        let (due, overdue) =
            (deadline.unary(), deadline.overdue(Some(Method::Attach)).expect("it has one"));
        let end = now + Duration::from_millis(asked);
        let delivery = delivery(Duration::from_millis(asked));
        assert!(due + delivery <= end, "{:?}", end - due);
        assert!(due < overdue && overdue + delivery / 2 <= end, "{:?}", overdue - now);
        assert!(due > now + Duration::from_millis(asked * 96 / 100), "time is wasted");
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_handler_is_answered_for_before_the_deadline() {
        let began = Instant::now();
        let deadline = deadline(Some(Duration::from_millis(100)));
        let answer = deadline.bound(Some(Method::Attach), std::future::pending::<()>());
        let late = answer.await.expect_err("it never answers");
        assert_eq!((late.reason, late.code), (Reason::OutcomeUnknown, Code::DeadlineExceeded));
        assert!(began.elapsed() < Duration::from_millis(100));
    }
}
