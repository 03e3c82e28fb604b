//! The server's clock, as this replica estimates it: the local clock, suspensions counted, plus an offset that lies within two bounds.
//!
//! A reply that carries the server's TIME was written between sending the command and receiving the reply, so each one
//! narrows the bounds; a slow reply narrows nothing, and so spoils nothing. Between replies the bounds widen by the drift that
//! two clocks may have. When a reply contradicts them, the server's clock was set, or it is another server: begin anew.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::ledger::BootInstant;
use crate::model::Timestamp;

/// How far two clocks may drift apart: 200 us in each second, far more than quartz does.
const DRIFT_PER_MILLION: i64 = 200;

#[derive(Debug)]
pub(in super::super) struct Clock {
    origin: BootInstant,
    /// What it shows until the first reply.
    system: Timestamp,
    bounds: Mutex<Option<Bounds>>,
}

/// Microseconds between the local clock (since its origin) and the server's (since the epoch).
#[derive(Debug, Clone, Copy)]
struct Bounds {
    least: i64,
    most: i64,
    at: i64,
}

impl Bounds {
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

impl Clock {
    pub(in super::super) fn new() -> Self {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            origin: BootInstant::now(),
            system: Timestamp::default() + system,
            bounds: Mutex::new(None),
        }
    }

    /// Learns from a reply to a command that was sent at `sent` and has arrived now.
    pub(in super::super) fn learn(&self, server: Timestamp, sent: BootInstant) {
        self.learn_at(server, self.local(sent), self.local(BootInstant::now()));
    }

    pub(in super::super) fn now(&self) -> Timestamp {
        self.at(self.local(BootInstant::now()))
    }

    fn learn_at(&self, server: Timestamp, sent: i64, received: i64) {
        let server = as_i64(server.as_micros());
        let heard = Bounds {
            least: server - received,
            most: server - sent,
            at: received,
        };
        let mut bounds = self.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        let narrowed = bounds.map(|known| {
            let known = known.widened(received);
            Bounds {
                least: known.least.max(heard.least),
                most: known.most.min(heard.most),
                at: received,
            }
        });
        *bounds = Some(narrowed.filter(|both| both.least <= both.most).unwrap_or(heard));
    }

    fn at(&self, local: i64) -> Timestamp {
        match *self.bounds.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Bounds { least, most, .. }) => {
                Timestamp::from_micros(u64::try_from(local + least + (most - least) / 2).unwrap_or(0))
            }
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
        let clock = Clock::new();
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
        let clock = Clock::new();
        clock.learn_at(server(1_010), 1_000, 1_020);
        clock.learn_at(server(5_000_000 - 60_000_000), 4_999_990, 5_000_010);
        assert_eq!(clock.at(6_000_000), server(6_000_000 - 60_000_000));
    }

    #[test]
    fn a_suspension_sets_it_back_by_nothing() {
        let clock = Clock::new();
        clock.learn(server(0), BootInstant::now());
        let before = clock.now();
        crate::ledger::boot::suspend(Duration::from_secs(60));
        let passed = clock.now().since(before);
        assert!(passed >= Duration::from_secs(60), "{passed:?}");
    }

    #[test]
    fn drift_is_followed() {
        let clock = Clock::new();
        // The server's clock gains 100 us a second.
        for second in 0..1_000_i64 {
            let local = second * 1_000_000;
            clock.learn_at(server(local + second * 100), local - 50, local + 50);
        }
        let off = clock.at(1_000_000_000).since(server(1_000_000_000 + 100_000));
        assert!(off < Duration::from_millis(1), "{off:?}");
    }
}
