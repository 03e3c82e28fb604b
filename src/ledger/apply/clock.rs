//! Times that another clock wrote. A record's times are by its server's clock, and that may be set back or forward, or be another
//! server's after a failover: then nobody knows how long ago they were.
//!
//! What protects for a while restarts in full, what is to be done at a time is due now, and what was seen is void.

use std::time::Duration;

use crate::model::Timestamp;

use super::super::bounds::{CLOCK_TOLERANCE, LEARNED_LIMIT_LIFE, WAITER_LIFE};
use super::super::record::Attempt;
use super::super::safety_checks::SafetyCheck;
use super::RecordUpdate;

impl RecordUpdate<'_> {
    /// The epoch changed: every time restarts. The observation is void already.
    pub(super) fn restart_times(&mut self) {
        self.restart(|_| true, self.now());
    }

    /// The same for times in the future, which nothing of this epoch can have written.
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

    /// Attempts that are due after `latest_due` are due now.
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
            // What was on the instance still counts; the next describe, whenever it was sent, is newer.
            seen.good_for = Duration::ZERO;
            seen.sent_at = Timestamp::default();
            seen.recorded_at = Timestamp::default();
        }
        self.record.recently_confirmed.values_mut().for_each(restart);
        if let Some(learned) = &mut self.record.learned_limit {
            restart(&mut learned.at);
            learned.until = learned.until.min(now + LEARNED_LIMIT_LIFE);
        }
        for attempt in self.record.attempts.values_mut() {
            restart_attempt(attempt, now, &is_unknown);
            if attempt.due_at.is_some_and(|due_at| due_at > latest_due) {
                attempt.due_at = Some(now);
            }
        }
    }

    /// An attempt as its owner remembers it, for a record that lost it. If the epoch changed its times are by another clock.
    pub(super) fn restarted(&self, attempt: &Attempt) -> Attempt {
        let mut attempt = attempt.clone();
        if self.enabled(SafetyCheck::TimesRestart) {
            restart_attempt(&mut attempt, self.now(), &|_| true);
        }
        attempt
    }
}

fn restart_attempt(attempt: &mut Attempt, now: Timestamp, is_unknown: &impl Fn(Timestamp) -> bool) {
    if attempt.due_at.is_some() && is_unknown(attempt.in_flight_since()) {
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
    attempt.described_at = attempt.described_at.filter(|at| !is_unknown(*at));
    attempt.observed_free_at = attempt.observed_free_at.filter(|at| !is_unknown(*at));
    if let Some(seen) = attempt.observed_attached_at.as_mut().filter(|at| is_unknown(**at)) {
        *seen = now;
    }
    // Callers see these: only a time that cannot be is put right.
    let attachment = &mut attempt.attachment;
    attachment.created_at = attachment.created_at.min(now);
    attachment.updated_at = attachment.updated_at.min(now);
}
