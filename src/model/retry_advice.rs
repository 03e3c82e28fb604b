//! The effect of a refused call on ENS, and whether to retry it.

use std::fmt;

use super::reason::{Code, Reason};

/// The effect of an attach with this reason on ENS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendEffect {
    /// Nothing was sent or will be.
    Nothing,
    /// Nothing was sent, or ENS refused. Nothing was applied.
    Refused,
    /// The send failed or went unanswered, and ENS shows that it was not applied.
    NotApplied,
    /// ENS accepted, and showed the ENI free later.
    TakenBack,
    /// It may be applied now or later.
    Unknown,
}

/// Whether to repeat the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetryAdvice {
    /// Only after the cause has changed.
    AfterChange,
    /// Only after the gateway's operators have acted.
    AfterRepair,
    /// After the delay in `RetryInfo`.
    AfterDelay,
    /// With a longer deadline.
    Longer,
    /// At once: it joins the attempt in flight.
    Join,
    /// At once: it is a new attempt.
    Immediately,
}

impl Reason {
    /// The effect on ENS.
    #[must_use]
    pub const fn send_effect(self) -> SendEffect {
        match self {
            Self::OutcomeUnknown => SendEffect::Unknown,
            Self::NotApplied => SendEffect::NotApplied,
            Self::AttachFailed => SendEffect::TakenBack,
            Self::EniLimitExceeded | Self::EnsThrottled | Self::EnsError => SendEffect::Refused,
            _ if self.ens_codes().is_empty() => SendEffect::Nothing,
            _ => SendEffect::Refused,
        }
    }

    /// The retry advice.
    #[must_use]
    pub const fn retry_advice(self) -> RetryAdvice {
        match (self, self.code()) {
            (Self::OutcomeUnknown, _) => RetryAdvice::Join,
            (Self::StreamTooOld | Self::AttachFailed, _) => RetryAdvice::Immediately,
            (_, Code::Unavailable | Code::ResourceExhausted) => RetryAdvice::AfterDelay,
            (_, Code::DeadlineExceeded) => RetryAdvice::Longer,
            (_, Code::Internal) => RetryAdvice::AfterRepair,
            _ => RetryAdvice::AfterChange,
        }
    }
}

impl fmt::Display for SendEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "no attach was sent to ENS",
            Self::Refused => "no attach was applied: it was not sent, or ENS refused it",
            Self::NotApplied => {
                "no attach was applied: it could not be sent, or ENS shows that it had no effect"
            }
            Self::TakenBack => "ENS accepted the attach and then gave it up: nothing is attached",
            Self::Unknown => "the attach may have been applied, or may still be applied",
        })
    }
}

impl fmt::Display for RetryAdvice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AfterChange => "do not retry until the cause is fixed",
            Self::AfterRepair => "do not retry until the gateway's operators have fixed the cause",
            Self::AfterDelay => "retry after the delay in RetryInfo",
            Self::Longer => "retry with a longer deadline",
            Self::Join => "retry at any time: the call joins the attempt, and sends nothing twice",
            Self::Immediately => "retry at any time",
        })
    }
}
