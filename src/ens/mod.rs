//! The ENS client: its trait, and the replies of ENS.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Failure, InstanceId, InterfaceId};
use crate::rate_limit::{Permit, PermitError};
use credentials::Credentials;

pub mod classify;
pub mod clock;
pub mod condition;
pub mod credentials;
mod exchange;
pub mod http;
mod percent;
pub mod redaction;
mod refusal_log;
pub mod report;
pub mod settings;
pub mod signer;
pub mod transport;
pub mod wire;

pub use http::HttpEns;
pub use settings::Settings;

/// ENS as the gateway uses it. Every call consumes a [`Permit`] of the account's budget.
pub trait Ens: Send + Sync + 'static {
    /// Waits for credentials that outlive one attach, and checks the clock. It is called before the
    /// lock, as late as possible. With `ens.enforce_validity` ENS refuses an attach that was
    /// prepared longer than `ens.request_validity` ago.
    ///
    /// # Errors
    /// `ENS_CREDENTIALS_REJECTED`: there are no credentials, or the clock is off. `NOT_APPLIED`:
    /// the credentials' source is down for the moment. Nothing was sent.
    fn prepare(&self) -> impl Future<Output = Result<Prepared, Failure>> + Send;

    /// Signs and sends one `AttachNetworkInterface`, exactly once: no retry, no redirect. Awaits
    /// nothing before it signs. `ens.attempt_timeout` bounds it, connect included.
    fn attach(
        &self,
        prepared: &Prepared,
        permit: Permit,
        instance: &InstanceId,
        eni: &InterfaceId,
    ) -> impl Future<Output = Outcome> + Send;

    /// The rows of these ENIs, at most [`MAX_IDS`]. A missing id may be unknown to ENS, or hidden
    /// by another id's error; describe it alone.
    fn interfaces(
        &self,
        permit: Permit,
        ids: &[InterfaceId],
    ) -> impl Future<Output = Result<Vec<Row>, DescribeError>> + Send;

    /// Every ENI of one instance: the whole answer, or an error.
    fn interfaces_of(
        &self,
        permit: Permit,
        instance: &InstanceId,
    ) -> impl Future<Output = Result<Vec<Row>, DescribeError>> + Send;

    /// The rows of these instances, at most [`MAX_INSTANCES`]. ENS does not know one that is
    /// missing.
    fn instances(
        &self,
        permit: Permit,
        ids: &[InstanceId],
    ) -> impl Future<Output = Result<Vec<InstanceRow>, DescribeError>> + Send;
}

/// Maximum number of ids in one describe, within the page size of every API version.
pub const MAX_IDS: usize = 50;

/// Maximum number of ids in one describe of instances.
pub const MAX_INSTANCES: usize = 100;

/// Credentials and `x-acs-date` of one attach. The date is fixed before the send is recorded. So no
/// later pause makes the request younger than its record says.
#[derive(Clone)]
pub struct Prepared {
    credentials: Arc<Credentials>,
    date: jiff::Timestamp,
}

impl Prepared {
    /// An attach with these credentials and this `x-acs-date`.
    #[must_use]
    pub fn new(credentials: Arc<Credentials>, date: jiff::Timestamp) -> Self {
        Self { credentials, date }
    }

    /// The `x-acs-date` of the attach.
    #[must_use]
    pub fn date(&self) -> jiff::Timestamp {
        self.date
    }
}

/// The outcome of one Attach call.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// ENS accepted, and attaches asynchronously.
    Accepted {
        /// ENS's RequestId.
        ens_request_id: String,
    },
    /// ENS refused with a code that proves that no copy was applied.
    Refused(EnsRefusal),
    /// ENS refused because of the ENI's status. A repeated copy may have been refused because of
    /// the first one.
    Conflict(EnsRefusal),
    /// ENS refused with a code that the error table does not know. It may be applied, now or later.
    Unproven(EnsRefusal),
    /// ENS throttled the account. Nothing was applied.
    Throttled {
        /// ENS's error.
        refusal: EnsRefusal,
        /// `x-acs-retry-after`, if ENS sent one.
        retry_after: Option<Duration>,
    },
    /// No byte reached ENS: DNS, connect or TLS failed, or the clocks differ too much.
    NotSent {
        /// The cause, without secrets.
        why: String,
    },
    /// Sent without an answer that settles it: timeout, reset, 5xx, no JSON, `ens.interface.error`,
    /// `SignatureNonceUsed`. It may be applied, now or later.
    Unanswered {
        /// The cause.
        why: String,
        /// ENS's code and RequestId, if the answer had them.
        refusal: Option<EnsRefusal>,
    },
}

/// An error answer of ENS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnsRefusal {
    /// `Code`, such as `InvalidOperation.InvalidEnsStatus`.
    pub code: String,
    /// `Message`.
    pub message: String,
    /// `RequestId`.
    pub request_id: String,
}

impl EnsRefusal {
    /// Whether ENS refused the credentials, so that fresh ones may succeed.
    #[must_use]
    pub fn rejects_the_key(&self) -> bool {
        rejects_the_key(&self.code)
    }
}

fn rejects_the_key(code: &str) -> bool {
    code.starts_with("InvalidSecurityToken") || code.starts_with("InvalidAccessKeyId")
}

/// A failed describe. Describes change nothing, so all of these may be retried.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DescribeError {
    /// ENS throttled the account.
    #[error("ens throttles the account: {}", .refusal.code)]
    Throttled {
        /// ENS's error.
        refusal: EnsRefusal,
        /// `x-acs-retry-after`, if ENS sent one.
        retry_after: Option<Duration>,
    },
    /// ENS refused a key, a right or a parameter.
    #[error("ens refused the describe: {} ({})", .0.message, .0.code)]
    Refused(EnsRefusal),
    /// One of several ids is unknown to ENS, which failed the whole answer.
    #[error("ens does not know one of the ids: {}", .0.message)]
    UnknownId(EnsRefusal),
    /// No usable answer: network, timeout, 5xx, no JSON.
    #[error("ens gave no usable answer: {0}")]
    Unavailable(String),
    /// The TLS handshake with ENS failed, so nothing was sent.
    #[error("ens cannot be reached: {0}")]
    Untrusted(transport::Handshake),
    /// The pages are not a consistent whole.
    #[error("ens returned an incomplete set of pages")]
    Incomplete,
    /// A further call of the describe got no permit. A describe of [`RateClass::Describe`] may run
    /// under an instance's lock, and does not wait for one.
    ///
    /// [`RateClass::Describe`]: crate::rate_limit::RateClass::Describe
    #[error("{missing}")]
    NoPermit {
        /// Why there is none.
        missing: PermitError,
        /// Number of calls, this one included, that a permit for the describe must cover.
        calls: u32,
    },
    /// The gateway cannot sign: no credentials, or its clock is off.
    #[error("{0}")]
    NotReady(Failure),
}

/// One ENI as `DescribeNetworkInterfaces` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The ENI.
    pub eni: InterfaceId,
    /// Its status, in the gateway's terms.
    pub status: EniStatus,
    /// Its status, verbatim.
    pub status_text: String,
    /// Its instance; `None` if ENS names none (absent or empty).
    pub instance: Option<InstanceId>,
    /// Whether it is its instance's primary ENI.
    pub primary: bool,
    /// `NetworkId`; empty if ENS names none.
    pub network: String,
}

/// An ENI's status, compared without case and `_`: documents have `InUse`, an example `In_use`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "ENS's own words")]
pub enum EniStatus {
    Available,
    Attaching,
    InUse,
    Detaching,
    Deleting,
    /// An undocumented status. It uses a slot, and is described again.
    Other,
}

impl EniStatus {
    /// Parses ENS's status.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let plain: String =
            text.chars().filter(|c| *c != '_').collect::<String>().to_ascii_lowercase();
        match plain.as_str() {
            "available" => Self::Available,
            "attaching" => Self::Attaching,
            "inuse" => Self::InUse,
            "detaching" => Self::Detaching,
            "deleting" => Self::Deleting,
            _ => Self::Other,
        }
    }
}

/// One instance as `DescribeInstances` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceRow {
    /// The instance.
    pub instance: InstanceId,
    /// Its status, verbatim: `Stopped`, `Running`, …
    pub status: String,
    /// `NetworkAttributes.NetworkId`; empty if ENS names none.
    pub network: String,
}
