//! The safety checks by name. A mutation test switches one off and must find the violation that
//! the check prevents.
//!
//! The switch exists only with the cargo feature `mutations`, which the tests `model`, `sim` and
//! `fault` are built with. In the product [`Bounds::enabled`](super::Bounds::enabled) is constant.

/// A rule of the protocol that a mutation test can switch off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SafetyCheck {
    /// Slots in use and reserved slots together stay within the limit. Without it: one attachment
    /// too many (L1).
    Limit,
    /// An ENI confirmed as attached occupies a slot until a Describe call must show it. Without it
    /// a lagging Describe call frees its slot (L1).
    SettledOccupies,
    /// An observation older than the recorded one is discarded. Without it a delayed response hides
    /// an ENI (L1).
    NewestObservation,
    /// An observation is valid only for a short time. Without it external attachments made since
    /// are not counted (L1).
    ObservationLife,
    /// A detaching ENI occupies its slot until it is gone. Without it the slot is reused too early
    /// (L1).
    DetachingOccupies,
    /// A send without a response may be applied for a while, and show even later. Without it its
    /// slot is reused too early (L1, A1).
    GraceOfUnanswered,
    /// An accepted attach shows only after a while. Without it a working attach is reported as
    /// failed (A1), and its slot is reused.
    GraceOfAccepted,
    /// The refusal of one copy proves nothing about another copy without a response. Without it: as
    /// [`SafetyCheck::GraceOfUnanswered`].
    OtherCopies,
    /// A send without a response is repeated only when a Describe call after the lag shows the ENI
    /// free (L6).
    AskBeforeResend,
    /// Every send is recorded before it goes out. Without it the grace period of another copy
    /// begins too early (L2).
    SendWritten,
    /// A Describe call sent before the attempt's last send proves nothing about it (A1).
    SettleOrder,
    /// An ENI that was recently attached is still shown for a while. Without it a detached ENI is
    /// reported as attached (A1).
    SeenBefore,
    /// After a possible loss of writes nothing is reserved until every forgotten send must show
    /// (L1).
    HoldDown,
    /// Nothing is sent with too little of the lease left, because the lock may pass to another
    /// owner (L4).
    Lease,
    /// ENS refused the attach for the ENI's status, and does not show the ENI here. Only a Describe
    /// call after the lag settles it. Without it an attach whose replayed copy was refused is
    /// reported as failed, and its slot is reused (L1, A1).
    ConflictWaits,
    /// During a hold-down nothing is settled as not applied, because the ledger may have lost a
    /// resend (L1, A1).
    AbsenceInHoldDown,
    /// An attached ENI keeps its slot, and is not settled as detached, while another copy of its
    /// attach may be applied (L1).
    OpenCopies,
    /// Times written by another clock restart when the epoch changes. Without it a grace period
    /// ends too early, or never (L1, A1).
    TimesRestart,
    /// An attached ENI that a newer Describe call does not show in use is confirmed to no caller.
    /// Without it a detached ENI is reported as attached (A1).
    Doubt,
}

#[cfg(feature = "mutations")]
impl SafetyCheck {
    /// All safety checks.
    pub const ALL: [Self; 19] = [
        Self::Limit,
        Self::SettledOccupies,
        Self::NewestObservation,
        Self::ObservationLife,
        Self::DetachingOccupies,
        Self::GraceOfUnanswered,
        Self::GraceOfAccepted,
        Self::OtherCopies,
        Self::AskBeforeResend,
        Self::SendWritten,
        Self::SettleOrder,
        Self::SeenBefore,
        Self::HoldDown,
        Self::Lease,
        Self::ConflictWaits,
        Self::AbsenceInHoldDown,
        Self::OpenCopies,
        Self::TimesRestart,
        Self::Doubt,
    ];
}
