//! The cloud: what the gateway asks of ENS, and what may come back. The trait is one of the two seams.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Failure, InstanceId, InterfaceId};
use crate::rate_limit::Permit;
use credentials::Credentials;

pub mod classify;
pub mod clock;
pub mod credentials;
mod exchange;
pub mod http;
pub mod report;
pub mod settings;
pub mod signer;
pub mod transport;
pub mod wire;

pub use http::HttpEns;
pub use settings::Settings;

/// ENS as the gateway uses it. Each call consumes a [`Permit`] of the account's budget: there is no way round it.
pub trait Ens: Send + Sync + 'static {
    /// Waits for what one attach needs besides a permit: credentials that outlive it, and a clock that agrees with ENS's. Called
    /// before the lock is held, never under it, and as late as that allows: with `ens.enforce_validity` ENS refuses an attach
    /// that was prepared longer than `ens.request_validity` ago.
    ///
    /// # Errors
    /// `ENS_CREDENTIALS_REJECTED` where no credentials can be had or the clock is off. Nothing was sent.
    fn prepare(&self) -> impl Future<Output = Result<Prepared, Failure>> + Send;

    /// Signs and sends one `AttachNetworkInterface`, exactly once: no retry, no redirect. Awaits nothing before it signs.
    /// Bounded by `ens.attempt_timeout`, connect included.
    fn attach(
        &self,
        prepared: &Prepared,
        permit: Permit,
        instance: &InstanceId,
        eni: &InterfaceId,
    ) -> impl Future<Output = Outcome> + Send;

    /// The rows of these ENIs, at most [`MAX_IDS`]. An id that is missing from the answer may be unknown to ENS, or may
    /// only be hidden by another id's fault: ask for it alone before believing it.
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

    /// One instance; `None` where ENS does not know it.
    fn instance(
        &self,
        permit: Permit,
        instance: &InstanceId,
    ) -> impl Future<Output = Result<Option<InstanceRow>, DescribeError>> + Send;
}

/// Most ids that one describe asks for: inside the page size of every version of the API's documents.
pub const MAX_IDS: usize = 50;

/// What one attach needs beside its permit: credentials, and the `x-acs-date` it will carry. The date is fixed here, before
/// the send is written to the ledger, so that no pause afterwards makes the request younger than its record says.
#[derive(Clone)]
pub struct Prepared {
    credentials: Arc<Credentials>,
    date: jiff::Timestamp,
}

impl Prepared {
    /// With these credentials and this `x-acs-date`.
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

/// What became of one Attach call.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// ENS took it. It attaches asynchronously.
    Accepted {
        /// ENS's RequestId.
        ens_request_id: String,
    },
    /// ENS answered that it will not, by a code that proves it: no copy was applied.
    Refused(EnsRefusal),
    /// ENS answered that it will not, for the ENI's status: a copy that was sent again on the way may have been refused for what the
    /// first one did.
    Conflict(EnsRefusal),
    /// ENS answered that it will not, by a code that the error table does not know: it may have been applied, or may be yet.
    Unproven(EnsRefusal),
    /// ENS throttled the account. Nothing was applied.
    Throttled {
        /// ENS's words.
        refusal: EnsRefusal,
        /// `x-acs-retry-after`, where ENS sent one.
        retry_after: Option<Duration>,
    },
    /// No byte reached ENS: DNS, connect or TLS failed, or the clocks turned out to differ too much to send.
    NotSent {
        /// What failed, without secrets.
        why: String,
    },
    /// Sent, and no answer that settles it: timeout, reset, 5xx, an answer that is no JSON, `ens.interface.error`,
    /// `SignatureNonceUsed`. It may have been applied, or may be yet.
    Unanswered {
        /// What happened instead.
        why: String,
        /// ENS's code and RequestId, where the answer held them.
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
    /// Whether ENS refused the credentials as such, so that fresh ones may do better.
    #[must_use]
    pub fn rejects_the_key(&self) -> bool {
        rejects_the_key(&self.code)
    }
}

fn rejects_the_key(code: &str) -> bool {
    code.starts_with("InvalidSecurityToken") || code.starts_with("InvalidAccessKeyId")
}

/// Why a describe gave no answer. Describes change nothing, so that all of these may be tried again.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DescribeError {
    /// ENS throttled the account.
    #[error("ens throttles the account: {}", .refusal.code)]
    Throttled {
        /// ENS's words.
        refusal: EnsRefusal,
        /// `x-acs-retry-after`, where ENS sent one.
        retry_after: Option<Duration>,
    },
    /// ENS refused: a key, a right, a parameter.
    #[error("ens refused the describe: {} ({})", .0.message, .0.code)]
    Refused(EnsRefusal),
    /// One of several ids is unknown to ENS, and failed the whole answer.
    #[error("ens does not know one of the ids: {}", .0.message)]
    UnknownId(EnsRefusal),
    /// No usable answer: network, timeout, 5xx, an answer that is no JSON.
    #[error("ens gave no usable answer: {0}")]
    Unavailable(String),
    /// The pages did not make up the whole: no observation.
    #[error("ens's pages did not make up the whole answer")]
    Incomplete,
    /// The gateway could not sign: no credentials, or its clock is off.
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
    /// The instance it is on; `None` where ENS names none (absent or empty).
    pub instance: Option<InstanceId>,
    /// Whether it is its instance's primary ENI.
    pub primary: bool,
    /// `NetworkId`; empty where ENS names none.
    pub network: String,
}

/// An ENI's status. Compared without case and without `_`: documents say `InUse`, an example says `In_use`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "ENS's own words")]
pub enum EniStatus {
    Available,
    Attaching,
    InUse,
    Detaching,
    Deleting,
    /// A word that the documents do not know: it occupies, and one goes on asking.
    Other,
}

impl EniStatus {
    /// Reads ENS's word.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let plain: String = text
            .chars()
            .filter(|c| *c != '_')
            .collect::<String>()
            .to_ascii_lowercase();
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
    /// Its status, verbatim: `Stopped`, `Running`, …
    pub status: String,
    /// `NetworkAttributes.NetworkId`; empty where ENS names none.
    pub network: String,
}
