//! Corrects times that another clock wrote. A record's times are by its server's clock. That clock
//! may be set, or another server may take over after a failover. The age of these times is then
//! unknown.
//!
//! Protective periods restart in full, due times become now, and observations are void.

use std::time::Duration;

use crate::model::Timestamp;

use super::super::bounds::{CLOCK_TOLERANCE, LEARNED_LIMIT_LIFE, WAITER_LIFE};
use super::super::record::{Attempt, AttemptState};
use super::super::safety_checks::SafetyCheck;
use super::RecordUpdate;

impl RecordUpdate<'_> {
    /// Restarts every time after a change of the epoch. The observation is already void.
    pub(super) fn restart_times(&mut self) {
        self.restart(|_| true, self.now());
    }

    /// Restarts times in the future, which nothing of this epoch can have written.
    pub(super) fn restart_future_times(&mut self) {
        let latest = self.now() + CLOCK_TOLERANCE;
        self.restart(|time| time > latest, self.now() + self.context.bounds.due_horizon());
        let (now, lease) = (self.now(), self.context.bounds.lease);
        if let Some(grant) = &mut self.record.lock {
            grant.expires_at = grant.expires_at.min(now + lease);
        }
        for waiter in &mut self.record.queue {
            waiter.expires_at = waiter.expires_at.min(now + WAITER_LIFE);
        }
    }

    /// Makes attempts that are due after `latest_due` due now.
    fn restart(&mut self, is_unknown: impl Fn(Timestamp) -> bool, latest_due: Timestamp) {
        if !self.enabled(SafetyCheck::TimesRestart) {
            return;
        }
        let now = self.now();
        let restart = |time: &mut Timestamp| {
            if is_unknown(*time) {
                *time = now;
            }
        };
        let latest = now + CLOCK_TOLERANCE;
        if let Some(seen) = self
            .record
            .observation
            .as_mut()
            .filter(|seen| seen.sent_at.max(seen.recorded_at) > latest)
        {
            // What was on the instance still counts. The next Describe call, whenever it was sent,
            // is newer.
            seen.valid_for = Duration::ZERO;
            seen.sent_at = Timestamp::default();
            seen.recorded_at = Timestamp::default();
        }
        self.record.recently_confirmed.values_mut().for_each(restart);
        if let Some(learned) = &mut self.record.learned_limit {
            restart(&mut learned.at);
            learned.until = learned.until.min(now + LEARNED_LIMIT_LIFE);
        }
        let is_changed = |attempt: &Attempt| {
            times(attempt).any(|time| time > now || is_unknown(time))
                || attempt.state.due_at().is_some_and(|due_at| due_at > latest_due)
        };
        for attempt in self.record.attempts.values_mut_where(is_changed) {
            restart_attempt(attempt, now, &is_unknown);
            if let Some(due_at) = attempt.state.due_at_mut().filter(|due_at| **due_at > latest_due)
            {
                *due_at = now;
            }
        }
    }

    /// An attempt as its owner has it, for a record that lost it. After a change of the epoch its
    /// times are by another clock.
    pub(super) fn restarted(&self, attempt: &Attempt) -> Attempt {
        let mut attempt = attempt.clone();
        if self.enabled(SafetyCheck::TimesRestart) {
            restart_attempt(&mut attempt, self.now(), &|_| true);
        }
        attempt
    }
}

/// Every time of an attempt that a restart may change, except when it is due.
fn times(attempt: &Attempt) -> impl Iterator<Item = Timestamp> {
    let sends = attempt.sends.iter();
    let sends = sends.flat_map(|send| [Some(send.counts_from()), send.answered_at]);
    let own = [
        Some(attempt.in_flight_since()),
        Some(attempt.created_at),
        Some(attempt.updated_at),
        attempt.described_at,
        attempt.observed_attached_at,
    ];
    own.into_iter().chain(sends).flatten()
}

fn restart_attempt(attempt: &mut Attempt, now: Timestamp, is_unknown: &impl Fn(Timestamp) -> bool) {
    if attempt.state.due_at().is_some() && is_unknown(attempt.in_flight_since()) {
        attempt.restarted_at = Some(now);
    }
    for send in &mut attempt.sends {
        if is_unknown(send.counts_from()) {
            send.restarted_at = Some(now);
        }
        if let Some(answered_at) = send.answered_at.as_mut().filter(|at| is_unknown(**at)) {
            *answered_at = now;
        }
    }
    // When it was last seen free is no longer known.
    if attempt.described_at.is_some_and(is_unknown) && attempt.may_be_resent() {
        attempt.state.advance(AttemptState::Verifying);
    }
    attempt.described_at = attempt.described_at.filter(|at| !is_unknown(*at));
    if let Some(seen) = attempt.observed_attached_at.as_mut().filter(|at| is_unknown(**at)) {
        *seen = now;
    }
    // Callers see these times. Only an impossible time is corrected.
    attempt.created_at = attempt.created_at.min(now);
    attempt.updated_at = attempt.updated_at.min(now);
}
