//! One gateway's view of one server: its clock, as replies show it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use eni_gateway::ledger::redis::ServerClock;
use eni_gateway::ledger::{BootInstant, MAX_CLOCK_DIFFERENCE};
use eni_gateway::model::Timestamp;

use crate::mutation::Mutation;
use crate::run::Simulation;

use super::server::Server;

/// A reply that took no longer shows the clock well enough.
const QUICK: Duration = Duration::from_millis(100);

/// A connection to one server.
pub(super) struct ServerView {
    pub(super) server: Arc<Server>,
    clock: ServerClock,
    replies: Mutex<Replies>,
}

struct Replies {
    /// When the newest command was sent whose reply came.
    newest: BootInstant,
    /// The steps of the clock that a quick reply has shown, which was requested after them.
    shown: usize,
}

impl ServerView {
    /// Connects, and reads the clock.
    pub(super) fn new(server: Arc<Server>) -> Self {
        let (clock, now) = (ServerClock::new(), BootInstant::now());
        clock.learn(server.now(), now, |_| ());
        let replies = Mutex::new(Replies { newest: now, shown: server.steps().count });
        Self { server, clock, replies }
    }

    /// The server's clock, as far as the gateway knows it.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Learns from a reply to a command that was sent at `sent` and arrived now. P5: once a reply
    /// has shown every step of the clock, no other reply spoils the estimate.
    pub(super) fn learn(
        &self,
        simulation: &Simulation,
        gateway: &str,
        written: Timestamp,
        sent: BootInstant,
    ) {
        let (steps, shown) = (self.server.steps(), {
            let mut replies = self.replies.lock().unwrap();
            let known =
                if Mutation::ignores_order(&simulation.plan) { replies.newest } else { sent };
            self.clock.learn(written, sent.max(known), |_| ());
            replies.newest = sent.max(replies.newest);
            if sent >= self.server.steps().last && sent.elapsed() <= QUICK {
                replies.shown = self.server.steps().count;
            }
            replies.shown
        });
        let (estimate, truth) = (self.now(), self.server.now());
        let off = estimate.since(truth).max(truth.since(estimate));
        if shown == steps.count && off > MAX_CLOCK_DIFFERENCE {
            let what =
                format!("{gateway} takes {estimate} for the ledger's clock, which is {truth}");
            simulation.checks.violation(simulation, "P5", what);
        }
    }
}
