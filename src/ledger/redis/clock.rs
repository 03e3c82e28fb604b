//! The server's clock, as this replica estimates it: the local clock, suspensions counted, plus an
//! offset that lies within two bounds.
//!
//! A reply with the server's TIME was written between sending the command and receiving the reply,
//! so each reply narrows the bounds. A slow reply narrows nothing, and does no harm. Between
//! replies the bounds widen by the drift that two clocks may have. If a reply contradicts them, the
//! server's clock was set, or the server is another one. The estimate then restarts, and the step
//! is reported: times that the old clock wrote are unknown.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::ledger::{BootInstant, MAX_CLOCK_DIFFERENCE};
use crate::model::Timestamp;

/// How far two clocks may drift apart: 200 us in each second, far more than quartz does.
const DRIFT_PER_MILLION: i64 = 200;

/// The estimate of one server's clock.
#[derive(Debug)]
pub struct ServerClock {
    origin: BootInstant,
    /// The time shown until the first reply.
    system: Timestamp,
    bounds: Mutex<Option<ClockWindow>>,
}

/// Microseconds between the local clock (since its origin) and the server's (since the epoch).
#[derive(Debug, Clone, Copy)]
struct ClockWindow {
    least: i64,
    most: i64,
    at: i64,
    /// When the newest command was sent whose reply is part of the bounds.
    sent: i64,
}

/// A step of the server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStep {
    /// Minimum size in microseconds. Negative means back.
    pub by: i64,
    /// The time that the old clock would show now.
    pub before: Timestamp,
}

impl ClockWindow {
    /// Estimate of the server's clock at a local time.
    fn shows(self, local: i64) -> Timestamp {
        Timestamp::from_micros(
            u64::try_from(local + self.least + (self.most - self.least) / 2).unwrap_or(0),
        )
    }

    /// The bounds, widened by the drift until then.
    fn widened(self, at: i64) -> Self {
        let drift = (at - self.at).max(0) * DRIFT_PER_MILLION / 1_000_000;
        Self { least: self.least - drift, most: self.most + drift, at, ..self }
    }
}

impl Default for ServerClock {
    fn default() -> Self {
        Self::new()
    }
}

impl ServerClock {
    /// An estimate that shows this machine's time until the first reply.
    #[must_use]
    pub fn new() -> Self {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            origin: BootInstant::now(),
            system: Timestamp::default() + system,
            bounds: Mutex::new(None),
        }
    }

    /// Updates the estimate from a reply to a command that was sent at `sent` and arrived now.
    /// Calls `on_step` if the clock was set by more than commits tolerate. No other reply is
    /// learned meanwhile, so nothing that was read after the step can be taken for older.
    pub fn learn(&self, server: Timestamp, sent: BootInstant, on_step: impl FnOnce(ClockStep)) {
        let (sent, received) = (self.local(sent), self.local(BootInstant::now()));
        let mut window = self.window();
        if let Some(step) = learn(&mut window, server, sent, received) {
            on_step(step);
        }
    }

    /// The server's clock now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.at(self.local(BootInstant::now()))
    }

    fn window(&self) -> MutexGuard<'_, Option<ClockWindow>> {
        self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, local: i64) -> Timestamp {
        match *self.window() {
            Some(bounds) => bounds.shows(local),
            None => self.system + Duration::from_micros(u64::try_from(local).unwrap_or(0)),
        }
    }

    fn local(&self, instant: BootInstant) -> i64 {
        as_i64(instant.since(self.origin).as_micros() as u64)
    }
}

/// Updates the window from a reply that was sent and received at these local times. Returns the
/// step, if the clock was set.
fn learn(
    window: &mut Option<ClockWindow>,
    server: Timestamp,
    sent: i64,
    received: i64,
) -> Option<ClockStep> {
    let server = as_i64(server.as_micros());
    let measured =
        ClockWindow { least: server - received, most: server - sent, at: received, sent };
    let Some(known) = window.map(|known| known.widened(received)) else {
        *window = Some(measured);
        return None;
    };
    let both = ClockWindow {
        least: known.least.max(measured.least),
        most: known.most.min(measured.most),
        at: received,
        sent: known.sent.max(sent),
    };
    if both.least <= both.most {
        *window = Some(both);
        return None;
    }
    // Replies are learned in any order. One that was requested before the newest may have been
    // written before a step that is known already. The next reply shows whether there was another.
    if sent < known.sent {
        return None;
    }
    *window = Some(measured);
    let by = if measured.least > known.most {
        measured.least - known.most
    } else {
        measured.most - known.least
    };
    let is_step = Duration::from_micros(by.unsigned_abs()) > MAX_CLOCK_DIFFERENCE;
    is_step.then(|| ClockStep { by, before: known.shows(received) })
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

    impl ServerClock {
        fn learn_at(&self, server: Timestamp, sent: i64, received: i64) -> Option<ClockStep> {
            super::learn(&mut self.window(), server, sent, received)
        }
    }

    #[test]
    fn a_reply_of_before_a_step_that_is_learned_after_it_is_no_other_step() {
        let clock = ServerClock::new();
        clock.learn_at(server(1_010), 1_000, 1_020);
        let set_back = |local: i64| server(local - 60_000_000);
        assert!(clock.learn_at(set_back(5_000_000), 4_999_990, 5_000_010).is_some());
        // Written before the step, received after the reply that showed it.
        assert_eq!(clock.learn_at(server(4_999_950), 4_999_900, 5_000_020), None);
        assert_eq!(clock.at(6_000_000), set_back(6_000_000));
        // A reply that was requested later shows a step as before.
        assert!(clock.learn_at(server(7_000_000), 6_999_990, 7_000_010).is_some());
    }

    #[test]
    fn a_slow_reply_does_not_spoil_what_a_quick_one_said() {
        let clock = ServerClock::new();
        clock.learn_at(server(1_010), 1_000, 1_020);
        assert_eq!(clock.at(2_000), server(2_000));
        // Half a second under way, all of it on the way back: by itself it would be 250 ms off.
        clock.learn_at(server(100_000), 99_999, 600_000);
        let off =
            clock.at(600_000).since(server(600_000)).max(server(600_000).since(clock.at(600_000)));
        assert!(off <= Duration::from_micros(250), "{off:?}");
    }

    #[test]
    fn a_clock_that_was_set_is_followed_at_once() {
        let clock = ServerClock::new();
        clock.learn_at(server(1_010), 1_000, 1_020);
        let step = clock.learn_at(server(5_000_000 - 60_000_000), 4_999_990, 5_000_010).unwrap();
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
        clock.learn(server(0), BootInstant::now(), |step| panic!("{step:?}"));
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
