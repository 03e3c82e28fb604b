//! What a caller who was refused most needs to know: whether anything was sent to ENS, and whether to call again.

use std::fmt;

use super::reason::{Code, Reason};

/// What an attach that was answered so has sent to ENS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendEffect {
    /// Nothing, and nothing will be.
    Nothing,
    /// Nothing, or what ENS refused: nothing was applied.
    Refused,
    /// It could not be sent, or went unanswered and ENS shows that it was not applied.
    NotApplied,
    /// ENS accepted, and took it back.
    TakenBack,
    /// It may be applied now or later.
    Unknown,
}

/// Whether to make the same call again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetryAdvice {
    /// Not before something else has changed.
    AfterChange,
    /// Not before whoever runs the gateway has acted.
    AfterRepair,
    /// After the delay in `RetryInfo`.
    AfterDelay,
    /// With more time.
    Longer,
    /// Yes: it joins the attempt that goes on.
    Join,
    /// Yes: it is a new attempt.
    Immediately,
}

impl Reason {
    /// What was sent.
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

    /// Whether to call again.
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
            Self::NotApplied => "no attach was applied: it could not be sent, or ENS shows that it came to nothing",
            Self::TakenBack => "ENS accepted the attach and took it back: nothing is attached",
            Self::Unknown => "the attach may have been applied, or may be yet",
        })
    }
}

impl fmt::Display for RetryAdvice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AfterChange => "repeat it only when what stood in its way has changed",
            Self::AfterRepair => "repeat it when the gateway's operators have acted",
            Self::AfterDelay => "repeat it after the delay in RetryInfo",
            Self::Longer => "repeat it with a longer deadline",
            Self::Join => "repeat it at will: that joins the attempt, and sends nothing twice",
            Self::Immediately => "repeat it at will",
        })
    }
}
