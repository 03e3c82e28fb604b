//! The protective rules by name, so that a test can switch one off and see what it protects from.
//!
//! A rule that can be taken away without anything breaking is no protection, and a test that does not notice is no proof. No
//! setting, variable or flag leads here: whoever serves has all of them.

use std::fmt;

/// A rule without which something breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SafetyCheck {
    /// A slot is reserved only if what occupies one and what is reserved leave room for it. Without it: one too many (L1).
    Limit,
    /// An ENI that was settled here occupies until a describe must show it. Without it a describe that lags frees its slot (L1).
    SettledOccupies,
    /// An observation older than the recorded one is discarded. Without it an answer that was held up hides an ENI (L1).
    NewestObservation,
    /// An observation is good for a short while only. Without it what others attach meanwhile is not counted (L1).
    ObservationLife,
    /// An ENI on its way off occupies until it is gone. Without it its slot is given away too early (L1).
    DetachingOccupies,
    /// An unanswered send may be applied for a while, and show later still. Without it: its slot is given away before (L1, A1).
    GraceOfUnanswered,
    /// An accepted attach shows only after a while. Without it: a working attach is called failed (A1), and its slot given away.
    GraceOfAccepted,
    /// A refusal of one copy proves nothing about another one that is unanswered. Without it: as [`SafetyCheck::GraceOfUnanswered`].
    OtherCopies,
    /// What went unanswered is sent again only when ENS, asked after the lag, shows the ENI free (L6).
    AskBeforeResend,
    /// Every send is written down before it goes out. Without it another one's grace begins too early (L2).
    SendWritten,
    /// A describe that was sent before the attempt's last send says nothing of it (A1).
    SettleOrder,
    /// An ENI that was here lately is shown here for a while. Without it: a detached ENI is taken for attached (A1).
    SeenBefore,
    /// After the ledger may have lost writes nothing is reserved until what it forgot must show (L1).
    Hold,
    /// Nothing is sent with too little of the lease left: the owner may have been given up (L4).
    Lease,
    /// ENS refused the attach for the ENI's status, and does not show the ENI here: only a describe after the lag settles it.
    /// Without it an attach whose replayed copy was refused is called failed, and its slot given away (L1, A1).
    ConflictWaits,
    /// During a hold nothing is settled as not applied: the ledger may have lost a resend (L1, A1).
    AbsenceInHold,
    /// An attached ENI keeps its slot, and is not detached, while another copy of its attach may be applied (L1).
    OpenCopies,
    /// Times that another clock wrote restart when the epoch changes. Without it a grace ends too early, or never (L1, A1).
    TimesRestart,
    /// An attached ENI that a newer describe does not show in use is affirmed to no caller. Without it a detached ENI is reported as
    /// attached (A1).
    Doubt,
}

impl SafetyCheck {
    /// All of them.
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
        Self::Hold,
        Self::Lease,
        Self::ConflictWaits,
        Self::AbsenceInHold,
        Self::OpenCopies,
        Self::TimesRestart,
        Self::Doubt,
    ];

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Which rules are in force. All, unless a test says otherwise.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SafetyChecks(u32);

impl SafetyChecks {
    /// All but this one.
    #[must_use]
    pub const fn without(rule: SafetyCheck) -> Self {
        Self(!rule.bit())
    }

    /// Whether this one is in force.
    #[must_use]
    pub const fn enabled(self, rule: SafetyCheck) -> bool {
        self.0 & rule.bit() != 0
    }
}

impl Default for SafetyChecks {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl fmt::Debug for SafetyChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SafetyCheck::ALL.into_iter().find(|rule| !self.enabled(*rule)) {
            None => f.write_str("all"),
            Some(rule) => write!(f, "all but {rule:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_one() {
        for rule in SafetyCheck::ALL {
            assert!(SafetyChecks::default().enabled(rule));
            let without = SafetyChecks::without(rule);
            assert_eq!(
                SafetyCheck::ALL
                    .into_iter()
                    .filter(|other| !without.enabled(*other))
                    .collect::<Vec<_>>(),
                [rule]
            );
        }
    }
}
