//! One ENI from the first call to the end that its caller received, and its invariants.

use std::fmt;
use std::time::Duration;

use eni_gateway::ledger::invariants::world;
use eni_gateway::model::{Reason, SendEffect, State};

/// One answer to an attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReportedOutcome {
    Accepted,
    Refused {
        reason: Reason,
        /// ENS's own word.
        by_ens: bool,
    },
    /// The call broke off, or the caller's own timer ended it.
    Nothing,
}

/// How it went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The last answer was a refusal for good.
    Refused,
    /// A watch ended with this state, and ENS had the ENI in use there, or not.
    Shown { state: State, in_use: bool },
    /// A watch knew nothing of it, or only of an earlier attempt.
    Unknown,
    /// No end within the patience of its caller.
    Open(Duration),
}

/// All of it.
#[derive(Debug, Clone)]
pub(crate) struct Episode {
    pub(crate) instance: String,
    pub(crate) eni: String,
    pub(crate) answers: Vec<ReportedOutcome>,
    pub(crate) end: End,
    /// When it ended, from the beginning of the run.
    pub(crate) ended: Duration,
    /// Each call and what was shown last, for the text of a violation.
    pub(crate) story: Vec<String>,
    /// Whether the ledger may have lost data meanwhile.
    pub(crate) lossy: bool,
    /// Attach calls for it that came to ENS until the ENI next went to this instance.
    pub(crate) arrived: u64,
    /// How many of them took effect.
    pub(crate) applied: u64,
    /// How many took effect after its end was shown.
    pub(crate) applied_after: u64,
}

/// What did not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Violation {
    /// More on an instance than its limit, or an invariant that a gateway itself found broken.
    Invariant,
    /// Accepted, and without an end.
    Lost,
    /// A caller or a watcher received a wrong answer.
    Wrong,
    /// Somebody waited for longer than the bound.
    Late,
}

impl ReportedOutcome {
    /// What the caller may conclude.
    pub(crate) fn sent(&self) -> SendEffect {
        match self {
            Self::Accepted | Self::Nothing => SendEffect::Unknown,
            Self::Refused { reason, .. } => reason.send_effect(),
        }
    }
}

impl fmt::Display for ReportedOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("OK"),
            Self::Nothing => f.write_str("(no answer)"),
            Self::Refused { reason, by_ens: false } => f.write_str(reason.name()),
            Self::Refused { reason, by_ens: true } => write!(f, "{} by ENS", reason.name()),
        }
    }
}

impl Episode {
    /// What does not hold of it, with the invariant's name.
    pub(crate) fn check(&self) -> Vec<(Violation, String)> {
        let mut found = Vec::new();
        let mut violation =
            |what, text: fmt::Arguments<'_>| found.push((what, format!("{text}: {self}")));
        let certain = self.answers.iter().all(|answer| answer.sent() == SendEffect::Nothing);
        let last = self.answers.last().map_or(SendEffect::Nothing, ReportedOutcome::sent);
        match self.end {
            End::Refused if certain => {
                if !world::reported_truthfully(SendEffect::Nothing, self.arrived, self.applied) {
                    violation(Violation::Wrong, format_args!("D1: reported that nothing was sent"));
                }
            }
            // What an earlier call began was over by then.
            End::Refused => {
                let sent = if last == SendEffect::Nothing { SendEffect::Refused } else { last };
                if !world::reported_truthfully(sent, self.arrived, self.applied) && !self.lossy {
                    violation(
                        Violation::Wrong,
                        format_args!("D1: reported that nothing was applied"),
                    );
                }
            }
            End::Shown { state, in_use } => {
                if !world::agrees(state, in_use)
                    || (state == State::Failed && self.applied_after > 0)
                {
                    violation(Violation::Wrong, format_args!("A1: shown {state:?}"));
                }
            }
            End::Unknown if self.lossy => {}
            End::Unknown => violation(Violation::Lost, format_args!("A1: its record is lost")),
            End::Open(after) => {
                violation(Violation::Lost, format_args!("A1: no end within {after:?}"))
            }
        }
        found
    }
}

impl fmt::Display for Episode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            instance,
            eni,
            answers,
            end,
            ended,
            lossy,
            arrived,
            applied,
            applied_after,
            story,
        } = self;
        write!(
            f,
            "{eni} to {instance}, answers {answers:?}, then {end:?} at {ended:.1?}; {arrived} \
             calls came to ENS, {applied} took effect, {applied_after} of them after that{}",
            if *lossy { "; the ledger lost data meanwhile" } else { "" }
        )?;
        story.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// Tests the check itself: what it must find, and what not.
pub(crate) fn self_test() {
    let refused = |reason, by_ens| ReportedOutcome::Refused { reason, by_ens };
    let sound = Episode {
        instance: "i-1".to_owned(),
        eni: "eni-1".to_owned(),
        answers: vec![ReportedOutcome::Accepted],
        end: End::Shown { state: State::Attached, in_use: true },
        ended: Duration::ZERO,
        story: Vec::new(),
        lossy: false,
        arrived: 1,
        applied: 1,
        applied_after: 0,
    };
    let full = Episode {
        answers: vec![refused(Reason::EniLimitExceeded, false)],
        end: End::Refused,
        arrived: 0,
        applied: 0,
        ..sound.clone()
    };
    let failed = End::Shown { state: State::Failed, in_use: false };
    let cases = [
        (sound.clone(), None),
        (full.clone(), None),
        (Episode { arrived: 1, applied: 1, ..full.clone() }, Some(Violation::Wrong)),
        (
            Episode {
                answers: vec![refused(Reason::InvalidField, false)],
                arrived: 1,
                ..full.clone()
            },
            Some(Violation::Wrong),
        ),
        (
            Episode {
                answers: vec![ReportedOutcome::Nothing, full.answers[0].clone()],
                arrived: 1,
                ..full.clone()
            },
            None,
        ),
        (
            Episode {
                answers: vec![refused(Reason::NotApplied, false)],
                arrived: 2,
                applied: 1,
                ..full
            },
            Some(Violation::Wrong),
        ),
        (
            Episode { end: End::Shown { state: State::Attached, in_use: false }, ..sound.clone() },
            Some(Violation::Wrong),
        ),
        (Episode { end: failed, ..sound.clone() }, None),
        (Episode { end: failed, applied_after: 1, ..sound.clone() }, Some(Violation::Wrong)),
        (Episode { end: End::Unknown, ..sound.clone() }, Some(Violation::Lost)),
        (Episode { end: End::Unknown, lossy: true, ..sound.clone() }, None),
        (Episode { end: End::Open(Duration::from_secs(1)), ..sound }, Some(Violation::Lost)),
    ];
    for (episode, expected) in cases {
        let found = episode.check().first().map(|(violation, _)| *violation);
        assert_eq!(found, expected, "{episode}");
    }
}
