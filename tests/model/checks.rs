//! The invariants, checked with the world's full knowledge.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use eni_gateway::ledger::Record;
use eni_gateway::ledger::apply::Context;
use eni_gateway::ledger::bounds::OBSERVATION_LIFE;
use eni_gateway::ledger::invariants::{self, world};
use eni_gateway::ledger::record::Attempt;
use eni_gateway::model::{InterfaceId, SendEffect, State, Uid};

use crate::plan::{Eni, Plan};
use crate::task::id;
use crate::world::{Flying, World};

/// What no gateway knows, and the checks need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ghosts {
    /// Copies of each attempt that went out, and were not turned back by throttling.
    sent: BTreeMap<Uid, usize>,
    /// Attempts of which a copy was applied, whatever became of it later.
    applied: BTreeSet<Uid>,
    /// Attempts of which a copy was applied, and is there still.
    there: BTreeMap<Uid, Eni>,
    /// When each attempt took its slot.
    reserved_at: BTreeMap<Uid, u64>,
    /// Attempts whose callers received that nothing was sent.
    reported_unsent: BTreeSet<Uid>,
}

impl Ghosts {
    /// It is on the instance no more.
    pub(crate) fn forget(&mut self, eni: Eni) {
        self.there.retain(|_, there| *there != eni);
    }

    /// ENS throttled one copy: as if it had not been sent.
    pub(crate) fn throttled(&mut self, uid: Uid) {
        if let Some(sent) = self.sent.get_mut(&uid) {
            *sent -= 1;
        }
    }

    /// Its caller receives that nothing was sent.
    pub(crate) fn report_unsent(&mut self, uid: Uid) {
        self.reported_unsent.insert(uid);
    }
}

impl World {
    pub(crate) fn record_violation(&mut self, invariant: &str, what: impl fmt::Display) {
        self.violation.get_or_insert(format!("{invariant}: {what}"));
    }

    /// What a new record must not say.
    pub(crate) fn check_commit(&mut self, plan: &Plan, context: &Context<'_>, after: &Record) {
        let before = self.ledger.newest.record.clone();
        for violation in invariants::check(&before, after, context) {
            self.record_violation(violation.id(), format_args!("{violation:?}"));
        }
        for (eni, attempt) in after.attempts.iter() {
            let before = before.attempts.get(eni);
            self.check_attempt(plan, before.filter(|before| before.uid == attempt.uid), attempt);
        }
        if plan.check_effects_only {
            self.violation = None;
        }
    }

    fn check_attempt(&mut self, plan: &Plan, before: Option<&Attempt>, attempt: &Attempt) {
        let (eni, state, uid) = (&attempt.eni, attempt.state.kind(), attempt.uid);
        let was = before.map(|before| before.state.kind());
        if before.is_none() && attempt.is_from_gateway() && state == State::Pending {
            self.ghosts.reserved_at.insert(uid, self.now);
        }
        if let Some(before) = before.filter(|before| before.sends.len() < attempt.sends.len()) {
            let asked = before.described_at.zip(before.last_send());
            if asked.is_none_or(|(described, send)| described < send.at + plan.bounds.lag) {
                self.record_violation(
                    "L6",
                    format_args!("{eni} may be sent again, and ENS was not asked"),
                );
            }
        }
        let ours = attempt.is_from_gateway() && was.is_some_and(|was| was != state);
        // A failover may bring back an attempt that was taken back, and that another one of the
        // same ENI followed.
        let applied = self.ghosts.applied.contains(&uid)
            || self.ghosts.there.values().any(|there| id(*there) == *eni);
        if ours && state == State::Attached && !applied && !self.is_external(eni) {
            self.record_violation(
                "A1",
                format_args!("{eni} is called attached, and nothing was applied"),
            );
        }
        if ours
            && state == State::Failed
            && !world::agrees(state, self.ghosts.there.contains_key(&uid))
        {
            self.record_violation("A1", format_args!("{eni} is called failed, and it is attached"));
        }
    }

    fn is_external(&self, eni: &InterfaceId) -> bool {
        self.external.keys().any(|external| id(*external) == *eni)
    }

    /// A copy goes out; the ledger may have lost meanwhile that it was written.
    pub(crate) fn check_send(&mut self, attempt: &Attempt, lost: bool) {
        let (eni, uid) = (&attempt.eni, attempt.uid);
        let sent = self.ghosts.sent.entry(uid).or_default();
        *sent += 1;
        let sent = *sent;
        let written = self.ledger.record().attempts.get(eni);
        let written = written.filter(|written| written.uid == uid);
        if !lost && written.is_some_and(|written| written.sends.len() < sent) {
            self.record_violation(
                "L2",
                format_args!("{sent} copies of {eni} went out, and fewer are written"),
            );
        }
        if !world::reported_truthfully(self.reported_effect(uid), sent as u64, 0) {
            self.record_violation(
                "D1",
                format_args!("{eni} is sent, and its caller received that nothing was"),
            );
        }
    }

    fn reported_effect(&self, uid: Uid) -> SendEffect {
        if self.ghosts.reported_unsent.contains(&uid) {
            SendEffect::Nothing
        } else {
            SendEffect::Unknown
        }
    }

    /// L3: what takes effect has its slot, unless the ledger lost the attempt.
    fn check_slot(&mut self, send: &Flying) {
        let attempt = self.ledger.record().attempts.get(&id(send.eni));
        let attempt = attempt.filter(|attempt| attempt.uid == send.uid);
        let given_up = |state| matches!(state, State::Failed | State::Detached);
        if attempt.is_some_and(|attempt| given_up(attempt.state.kind())) {
            self.record_violation(
                "L3",
                format_args!("eni-{} takes effect, and its slot was given up", send.eni),
            );
        }
    }

    /// A copy takes effect: whether ENS now holds more than the limit because of it. What others
    /// attached so lately that no describe need have shown it at the reservation is not our doing.
    pub(crate) fn check_effect(&mut self, plan: &Plan, send: &Flying) {
        self.check_slot(send);
        self.ghosts.applied.insert(send.uid);
        self.ghosts.there.insert(send.uid, send.eni);
        let reserved_at = self.ghosts.reserved_at.get(&send.uid).copied().unwrap_or_default();
        let hidden = plan.lag() + OBSERVATION_LIFE.as_secs();
        let counts =
            |eni: &Eni| self.external.get(eni).is_none_or(|since| since + hidden < reserved_at);
        let (occupied, limit) = (self.occupied().filter(counts).count(), plan.bounds.limit);
        if !world::within_limit(occupied, limit) {
            self.record_violation(
                "L1",
                format_args!("ens holds {occupied}, and the limit is {limit}"),
            );
        }
    }
}
