//! What a caller who was refused most needs to know: whether anything was sent to ENS, and whether to call again.

use std::fmt;

use super::reason::{Code, Reason};

/// What an attach that was answered so has sent to ENS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
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
pub enum Repeat {
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
    Anew,
}

impl Reason {
    /// What was sent.
    #[must_use]
    pub const fn sent(self) -> Sent {
        match self {
            Self::OutcomeUnknown => Sent::Unknown,
            Self::NotApplied => Sent::NotApplied,
            Self::AttachFailed => Sent::TakenBack,
            Self::EniLimitExceeded | Self::EnsThrottled | Self::EnsError => Sent::Refused,
            _ if self.ens_codes().is_empty() => Sent::Nothing,
            _ => Sent::Refused,
        }
    }

    /// Whether to call again.
    #[must_use]
    pub const fn repeat(self) -> Repeat {
        match (self, self.code()) {
            (Self::OutcomeUnknown, _) => Repeat::Join,
            (Self::StreamTooOld | Self::AttachFailed, _) => Repeat::Anew,
            (_, Code::Unavailable | Code::ResourceExhausted) => Repeat::AfterDelay,
            (_, Code::DeadlineExceeded) => Repeat::Longer,
            (_, Code::Internal) => Repeat::AfterRepair,
            _ => Repeat::AfterChange,
        }
    }
}

impl fmt::Display for Sent {
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

impl fmt::Display for Repeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AfterChange => "repeat it only when what stood in its way has changed",
            Self::AfterRepair => "repeat it when the gateway's operators have acted",
            Self::AfterDelay => "repeat it after the delay in RetryInfo",
            Self::Longer => "repeat it with a longer deadline",
            Self::Join => "repeat it at will: that joins the attempt, and sends nothing twice",
            Self::Anew => "repeat it at will",
        })
    }
}
