//! What a seed decides before anything runs: how large the world is, how it behaves, and what may go wrong. Each kind of trouble is
//! left out of half of the runs, for what always strikes hides what strikes alone.

use std::time::Duration;

use eni_gateway::ledger::Bounds;
use eni_gateway::model::random;
use eni_gateway::simulator::{InUse, Rules, Spread, Unattached, UnknownEni};

use crate::network::Quality;
use crate::troubles::Kind;

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) gateways: usize,
    pub(crate) instances: usize,
    pub(crate) enis: usize,
    pub(crate) callers: usize,
    pub(crate) watchers: usize,
    /// How long callers call and troubles strike; then all is well, and everything must come to its end.
    pub(crate) length: Duration,
    pub(crate) bounds: Bounds,
    pub(crate) cloud: Rules,
    /// ENS itself refuses an attach whose date is too old; otherwise the network never delivers one.
    pub(crate) enforce_validity: bool,
    pub(crate) ledger_network: Quality,
    pub(crate) cloud_network: Quality,
    /// How often an ENS call is struck by a fault of the cloud's own.
    pub(crate) cloud_faults: f64,
    /// How often a hint is lost.
    pub(crate) deaf: f64,
    /// How often a caller hangs up.
    pub(crate) hang_ups: f64,
    pub(crate) troubles: Vec<Kind>,
    /// The mean time between two of them.
    pub(crate) calm: Duration,
}

fn chance(probability: f64) -> bool {
    random::fraction() < probability
}

fn sometimes(most: f64) -> f64 {
    if chance(0.5) { random::between(0.0..most) } else { 0.0 }
}

fn seconds(range: std::ops::Range<f64>) -> Duration {
    Duration::from_secs_f64(random::between(range))
}

fn spread(range: std::ops::Range<f64>) -> Spread {
    let (one, other) = (random::between(range.clone()), random::between(range));
    let text = format!(
        "{}ms..{}ms",
        (one.min(other) * 1e3) as u64,
        (one.max(other) * 1e3) as u64
    );
    text.parse().unwrap()
}

impl Plan {
    /// The plan of this seed. Draws from the seeded generator.
    pub(crate) fn draw(seed: u64) -> Self {
        let bounds = Bounds {
            limit: random::between(1..=3),
            ..Bounds::default()
        };
        let quality = |slowest| Quality {
            lost: sometimes(0.1),
            slow: sometimes(0.2),
            slowest,
        };
        Self {
            gateways: random::between(1..=3),
            instances: random::between(1..=2),
            enis: bounds.limit + random::between(1..=4),
            callers: random::between(2..=8),
            watchers: random::between(1..=4),
            length: seconds(90.0..240.0),
            cloud: Self::cloud(seed, &bounds),
            enforce_validity: chance(0.5),
            ledger_network: quality(Duration::from_millis(800)),
            cloud_network: quality(Duration::from_secs(20)),
            cloud_faults: sometimes(0.4),
            deaf: sometimes(1.0),
            hang_ups: sometimes(0.4),
            troubles: Kind::ALL.into_iter().filter(|_| chance(0.4)).collect(),
            calm: seconds(4.0..30.0),
            bounds,
        }
    }

    fn cloud(seed: u64, bounds: &Bounds) -> Rules {
        let lag = bounds.lag.as_secs_f64();
        Rules {
            // Mostly the gateways alone keep the limit; at times ENS knows a lower one.
            enforce_limit: chance(0.2),
            eni_limit: bounds.limit.max(2) - usize::from(chance(0.5)),
            attach_time: spread(0.1..15.0),
            detach_time: spread(0.1..8.0),
            lag_by_id: spread(0.0..lag),
            lag_by_instance: spread(0.0..lag),
            in_use: if chance(0.5) { InUse::Documented } else { InUse::Example },
            unattached: if chance(0.5) {
                Unattached::Absent
            } else {
                Unattached::Empty
            },
            attaching_names_instance: chance(0.7),
            unknown_eni: if chance(0.5) {
                UnknownEni::Omitted
            } else {
                UnknownEni::Error
            },
            seed,
            ..Rules::default()
        }
    }
}
