//! Lasting problems of the calls to ENS, as the last replies show them. Operators read them in the
//! log and in `/readyz`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::SignedDuration;

use super::classify::EnsReply;
use crate::model::Reason;

/// Calls in a row without an answer after which ENS counts as unreachable. A single one may be
/// lost at any time.
const UNANSWERED: u32 = 3;

/// A lasting problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its name, which stays the same while its cause changes.
    pub name: &'static str,
    /// Its cause, without secrets.
    pub why: String,
}

/// What the last replies showed.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    no_credentials: Option<String>,
    denied: Option<String>,
    /// Calls without an answer since the last answer.
    unanswered: u32,
    last_fault: String,
}

impl Conditions {
    /// Learns from a reply.
    pub(super) fn learn(&self, reply: &EnsReply) {
        let mut state = self.state();
        match reply {
            EnsReply::NotSent { why, .. } => state.fail(why),
            EnsReply::Unsettled { kind, why, .. } if *kind != "code" => state.fail(why),
            EnsReply::Refused(refusal) => {
                state.unanswered = 0;
                let denied = Reason::of_ens_code(&refusal.code).is_of_account();
                state.denied = denied.then(|| {
                    let message = refusal.message.trim_end_matches('.');
                    format!("ens refuses the gateway's account: {message} ({})", refusal.code)
                });
            }
            EnsReply::Answer { .. } => {
                state.unanswered = 0;
                state.denied = None;
            }
            EnsReply::Throttled { .. } | EnsReply::Unsettled { .. } => state.unanswered = 0,
        }
    }

    /// Learns whether there are credentials; `missing` says why there are none.
    pub(super) fn learn_credentials(&self, missing: Option<&str>) {
        self.state().no_credentials = missing.map(str::to_owned);
    }

    /// The present problems.
    pub(super) fn current(&self) -> Vec<Condition> {
        let state = self.state();
        let unreachable = (state.unanswered >= UNANSWERED).then(|| {
            format!("{} calls in a row had no answer: {}", state.unanswered, state.last_fault)
        });
        [
            ("credentials missing", state.no_credentials.clone()),
            ("account refused", state.denied.clone()),
            ("ens unreachable", unreachable),
        ]
        .into_iter()
        .filter_map(|(name, why)| why.map(|why| Condition { name, why }))
        .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fail(&mut self, why: &str) {
        self.unanswered = self.unanswered.saturating_add(1);
        why.clone_into(&mut self.last_fault);
    }
}

/// This offset of ENS's clock in words: rounded, and with its direction.
#[must_use]
pub fn describe_offset(off: SignedDuration) -> String {
    let seconds = off.as_millis().unsigned_abs().div_ceil(1000);
    let side = if off.is_negative() { "ahead of" } else { "behind" };
    format!("clock is about {seconds} s {side} ens's")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ens::EnsRefusal;

    fn refused(code: &str) -> EnsReply {
        EnsReply::Refused(EnsRefusal { code: code.to_owned(), ..EnsRefusal::default() })
    }

    fn names(conditions: &Conditions) -> Vec<&'static str> {
        conditions.current().iter().map(|condition| condition.name).collect()
    }

    #[test]
    fn a_condition_begins_with_its_cause_and_ends_with_an_answer() {
        let conditions = Conditions::default();
        let lost =
            EnsReply::NotSent { kind: "connect", why: "refused".to_owned(), handshake: None };
        (1..UNANSWERED).for_each(|_| conditions.learn(&lost));
        assert!(names(&conditions).is_empty(), "a single loss is none");
        conditions.learn(&lost);
        assert_eq!(names(&conditions), ["ens unreachable"]);
        conditions.learn(&refused("InvalidAccessKeyId.NotFound"));
        assert_eq!(names(&conditions), ["account refused"]);
        conditions.learn(&refused("InstanceNotFound"));
        assert!(names(&conditions).is_empty());
        conditions.learn_credentials(Some("sts is down"));
        assert_eq!(names(&conditions), ["credentials missing"]);
        conditions.learn_credentials(None);
        assert!(names(&conditions).is_empty());
    }

    #[test]
    fn an_offset_is_rounded() {
        let off = SignedDuration::from_nanos(-19_905_819_791);
        assert_eq!(describe_offset(off), "clock is about 20 s ahead of ens's");
        let off = SignedDuration::from_secs(60);
        assert_eq!(describe_offset(off), "clock is about 60 s behind ens's");
    }
}
