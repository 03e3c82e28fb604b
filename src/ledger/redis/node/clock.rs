//! The server's clock, as this replica estimates it: the local clock, suspensions counted, plus an offset that lies within two bounds.
//!
//! A reply that carries the server's TIME was written between sending the command and receiving the reply, so each one
//! narrows the bounds; a slow reply narrows nothing, and so spoils nothing. Between replies the bounds widen by the drift that
//! two clocks may have. When a reply contradicts them, the server's clock was set, or it is another server: begin anew, and report
//! the step, for every time that was written by the old clock is unknown then.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::ledger::{BootInstant, MAX_CLOCK_DIFFERENCE};
use crate::model::Timestamp;

/// How far two clocks may drift apart: 200 us in each second, far more than quartz does.
const DRIFT_PER_MILLION: i64 = 200;

#[derive(Debug)]
pub(in super::super) struct ServerClock {
    origin: BootInstant,
    /// What it shows until the first reply.
    system: Timestamp,
    bounds: Mutex<Option<ClockWindow>>,
}

/// Microseconds between the local clock (since its origin) and the server's (since the epoch).
#[derive(Debug, Clone, Copy)]
struct ClockWindow {
    least: i64,
    most: i64,
    at: i64,
}

/// The server's clock was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct ClockStep {
    /// By so many microseconds at least; negative: back.
    pub(in super::super) by: i64,
    /// What it would show now.
    pub(in super::super) before: Timestamp,
}

impl ClockWindow {
    /// What the server's clock shows then, as far as they say.
    fn shows(self, local: i64) -> Timestamp {
        Timestamp::from_micros(u64::try_from(local + self.least + (self.most - self.least) / 2).unwrap_or(0))
    }

    /// As wide as they must be by then.
    fn widened(self, at: i64) -> Self {
        let drift = (at - self.at).max(0) * DRIFT_PER_MILLION / 1_000_000;
        Self {
            least: self.least - drift,
            most: self.most + drift,
            at,
        }
    }
}

impl ServerClock {
    pub(in super::super) fn new() -> Self {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            origin: BootInstant::now(),
            system: Timestamp::default() + system,
            bounds: Mutex::new(None),
        }
    }

    /// Learns from a reply to a command that was sent at `sent` and has arrived now. The step, if the clock was set by more than
    /// commits bear.
    pub(in super::super) fn learn(&self, server: Timestamp, sent: BootInstant) -> Option<ClockStep> {
        self.learn_at(server, self.local(sent), self.local(BootInstant::now()))
    }

    pub(in super::super) fn now(&self) -> Timestamp {
        self.at(self.local(BootInstant::now()))
    }

    fn learn_at(&self, server: Timestamp, sent: i64, received: i64) -> Option<ClockStep> {
        let server = as_i64(server.as_micros());
        let heard = ClockWindow {
            least: server - received,
            most: server - sent,
            at: received,
        };
        let mut bounds = self.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = bounds.map(|known| known.widened(received)) else {
            *bounds = Some(heard);
            return None;
        };
        let both = ClockWindow {
            least: known.least.max(heard.least),
            most: known.most.min(heard.most),
            at: received,
        };
        if both.least <= both.most {
            *bounds = Some(both);
            return None;
        }
        *bounds = Some(heard);
        let by = if heard.least > known.most {
            heard.least - known.most
        } else {
            heard.most - known.least
        };
        let is_step = Duration::from_micros(by.unsigned_abs()) > MAX_CLOCK_DIFFERENCE;
        is_step.then(|| ClockStep {
            by,
            before: known.shows(received),
        })
    }

    fn at(&self, local: i64) -> Timestamp {
        match *self.bounds.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bounds) => bounds.shows(local),
            None => self.system + Duration::from_micros(u64::try_from(local).unwrap_or(0)),
        }
    }

    fn local(&self, instant: BootInstant) -> i64 {
        as_i64(instant.since(self.origin).as_micros() as u64)
    }
}

fn as_i64(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: u64 = 1_700_000_000_000_000;

    fn server(local: i64) -> Timestamp {
        Timestamp::from_micros(SERVER.saturating_add_signed(local))
    }

    #[test]
    fn a_slow_reply_does_not_spoil_what_a_quick_one_said() {
        let clock = ServerClock::new();
        clock.learn_at(server(1_010), 1_000, 1_020);
        assert_eq!(clock.at(2_000), server(2_000));
        // Half a second under way, all of it on the way back: by itself it would be 250 ms off.
        clock.learn_at(server(100_000), 99_999, 600_000);
        let off = clock
            .at(600_000)
            .since(server(600_000))
            .max(server(600_000).since(clock.at(600_000)));
        assert!(off <= Duration::from_micros(250), "{off:?}");
    }

    #[test]
    fn a_clock_that_was_set_is_followed_at_once() {
        let clock = ServerClock::new();
        clock.learn_at(server(1_010), 1_000, 1_020);
        let step = clock
            .learn_at(server(5_000_000 - 60_000_000), 4_999_990, 5_000_010)
            .unwrap();
        assert_eq!(clock.at(6_000_000), server(6_000_000 - 60_000_000));
        assert_eq!((step.by / 1_000_000, step.before), (-59, server(5_000_010)));
        let step = clock.learn_at(server(7_000_000), 6_999_990, 7_000_010).unwrap();
        assert_eq!(step.by / 1_000_000, 59);
    }

    #[test]
    fn what_commits_bear_is_no_step() {
        let clock = ServerClock::new();
        clock.learn_at(server(1_010), 1_000, 1_020);
        assert_eq!(clock.learn_at(server(2_200_000), 1_999_990, 2_000_010), None);
        assert!(clock.learn_at(server(3_600_000), 2_999_990, 3_000_010).is_some());
    }

    #[test]
    fn a_suspension_sets_it_back_by_nothing() {
        let clock = ServerClock::new();
        clock.learn(server(0), BootInstant::now());
        let before = clock.now();
        crate::ledger::boot::suspend(Duration::from_secs(60));
        let passed = clock.now().since(before);
        assert!(passed >= Duration::from_secs(60), "{passed:?}");
    }

    #[test]
    fn drift_is_followed() {
        let clock = ServerClock::new();
        // The server's clock gains 100 us a second.
        for second in 0..1_000_i64 {
            let local = second * 1_000_000;
            clock.learn_at(server(local + second * 100), local - 50, local + 50);
        }
        let off = clock.at(1_000_000_000).since(server(1_000_000_000 + 100_000));
        assert!(off < Duration::from_millis(1), "{off:?}");
    }
}
