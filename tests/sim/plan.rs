//! The decisions of a seed: the size of the world, its behaviour, and its faults. Each fault is
//! left out of half of the runs, because a constant one hides rare ones.

use std::time::Duration;

use eni_gateway::ledger::Bounds;
use eni_gateway::model::random;
use eni_gateway::simulator::{DurationRange, InUse, Unattached, UnknownEni, WorldRules};

use crate::faults::Kind;
use crate::limits;
use crate::mutation::Mutation;
use crate::network::Quality;

/// Longest time that a patient caller may have to wait for its answer, by the bound: its deadline
/// is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(100);

/// What the small steps of a clock within one grace add up to at most, and how late a copy of an
/// answered request arrives.
const SPARE: Duration = Duration::from_secs(5);

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) gateways: usize,
    pub(crate) instances: usize,
    pub(crate) enis: usize,
    pub(crate) callers: usize,
    pub(crate) watchers: usize,
    /// Watchers of all instances.
    pub(crate) fleet_watchers: usize,
    /// Callers who press on few instances, instead of `callers`.
    pub(crate) crowd: Option<Crowd>,
    /// The account's budget.
    pub(crate) attach_per_second: f64,
    pub(crate) describe_per_second: f64,
    /// How long callers call and faults happen. Then all is well, and everything must end.
    pub(crate) length: Duration,
    pub(crate) bounds: Bounds,
    pub(crate) cloud: WorldRules,
    /// What the world keeps below the bounds for lag and validity: what small steps of the ledger's
    /// clock, and copies of answered requests, may cost.
    pub(crate) spare: Duration,
    /// ENS itself refuses an attach whose date is too old; otherwise the network never delivers
    /// one.
    pub(crate) enforce_validity: bool,
    pub(crate) ledger_network: Quality,
    pub(crate) cloud_network: Quality,
    /// How often an attach is so slow that its caller may have given up before it arrives. `None`:
    /// as often as others are slow.
    pub(crate) late: Option<f64>,
    /// How often an ENS call is struck by a fault of the cloud's own.
    pub(crate) cloud_faults: f64,
    /// In the end an entry is due whose record is gone.
    pub(crate) orphan: bool,
    /// How often ENS lies about an attach, or repeats it.
    pub(crate) hostile: f64,
    /// How often ENS throttles a call, beside.
    pub(crate) throttled: f64,
    /// How often a hint is lost.
    pub(crate) deaf: f64,
    /// How often a caller hangs up.
    pub(crate) hang_ups: f64,
    /// How often an attach is one of a batch.
    pub(crate) batches: f64,
    pub(crate) faults: Vec<Kind>,
    /// The protection that is off in this run.
    pub(crate) mutation: Option<Mutation>,
    /// The mean time between two of them.
    pub(crate) calm: Duration,
}

/// Callers with an ENI of their own each, and readers.
#[derive(Debug, Clone)]
pub(crate) struct Crowd {
    /// Callers with a deadline longer than the time that they may have to wait.
    pub(crate) patient: usize,
    /// Callers with deadlines of some hundred milliseconds up to seconds.
    pub(crate) hasty: usize,
    /// Readers without a pause, of instances that no caller attaches to.
    pub(crate) readers: usize,
    /// Callers that repeat the attach of one attached pair, on an instance that no other caller
    /// attaches to.
    pub(crate) repeaters: usize,
    /// Longest pause between two calls.
    pub(crate) pause: Duration,
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

fn spread(range: std::ops::Range<f64>) -> DurationRange {
    let (one, other) = (random::between(range.clone()), random::between(range));
    let text = format!("{}ms..{}ms", (one.min(other) * 1e3) as u64, (one.max(other) * 1e3) as u64);
    text.parse().unwrap()
}

impl Plan {
    /// The plan of this seed. Draws from the seeded generator.
    pub(crate) fn draw(seed: u64) -> Self {
        let bounds = Bounds { limit: random::between(1..=3), ..Bounds::default() };
        let quality = |slowest| Quality { lost: sometimes(0.1), slow: sometimes(0.2), slowest };
        Self {
            gateways: random::between(1..=3),
            instances: random::between(1..=2),
            enis: bounds.limit + random::between(1..=4),
            callers: random::between(2..=8),
            watchers: random::between(1..=4),
            fleet_watchers: 0,
            crowd: None,
            attach_per_second: 5.0,
            describe_per_second: 20.0,
            length: seconds(90.0..240.0),
            cloud: Self::cloud(seed, &bounds),
            spare: Duration::ZERO,
            enforce_validity: chance(0.5),
            ledger_network: quality(Duration::from_millis(800)),
            cloud_network: quality(Duration::from_secs(20)),
            cloud_faults: sometimes(0.4),
            orphan: false,
            hostile: 0.0,
            throttled: 0.0,
            deaf: sometimes(1.0),
            hang_ups: sometimes(0.4),
            batches: 0.0,
            faults: Kind::ALL.into_iter().filter(|_| chance(0.4)).collect(),
            calm: seconds(4.0..30.0),
            late: None,
            mutation: None,
            bounds,
        }
    }

    /// A plan of this seed in which the clock of the ledger's server steps.
    pub(crate) fn draw_clock(seed: u64) -> Self {
        let mut plan = Self::draw(seed).with_spare();
        plan.faults.retain(|_| chance(0.5));
        plan.faults.extend(Kind::CLOCK.into_iter().filter(|_| chance(0.7)));
        plan.calm = plan.calm.max(Duration::from_secs(10));
        plan
    }

    /// A plan of this seed whose callers attach several ENIs at once.
    pub(crate) fn draw_batches(seed: u64) -> Self {
        let mut plan = Self::draw(seed);
        plan.batches = random::between(0.3..1.0);
        plan
    }

    /// A plan of this seed with an ENS that lies about attaches, and repeats them.
    pub(crate) fn draw_hostile(seed: u64) -> Self {
        let mut plan = Self::draw(seed).with_spare();
        plan.hostile = random::between(0.05..0.6);
        plan.faults.retain(|_| chance(0.4));
        plan
    }

    /// The same in a world that keeps below the bounds.
    fn with_spare(mut self) -> Self {
        let lag = (self.bounds.lag - SPARE).as_secs_f64();
        self.spare = SPARE;
        self.cloud.lag_by_id = spread(0.0..lag);
        self.cloud.lag_by_instance = spread(0.0..lag);
        self
    }

    /// A plan of this seed for a crowd: mostly nothing is broken, so that no wait that is too long
    /// is excused.
    pub(crate) fn draw_crowd(seed: u64) -> Self {
        loop {
            let plan = Self::draw_any_crowd(seed);
            let crowd = plan.crowd.as_ref();
            if crowd.is_some_and(|crowd| limits::wait(&plan, crowd) <= LONGEST_WAIT) {
                return plan;
            }
        }
    }

    /// A plan of this seed for callers that repeat an attach without end, beside patient ones.
    pub(crate) fn draw_repeaters(seed: u64) -> Self {
        let mut plan = Self::draw_crowd(seed);
        plan.length = seconds(20.0..40.0);
        plan.faults.clear();
        (plan.orphan, plan.throttled, plan.enis) = (false, 0.0, plan.enis + 1);
        if let Some(crowd) = &mut plan.crowd {
            crowd.readers = 0;
            crowd.repeaters = random::between(40..=100);
        }
        plan
    }

    fn draw_any_crowd(seed: u64) -> Self {
        let plan = Self::draw(seed);
        let (patient, hasty) = if chance(0.3) {
            (random::between(1..=3), random::between(0..=2))
        } else {
            (random::between(4..=20), random::between(2..=12))
        };
        let crowd = Crowd {
            patient,
            hasty,
            readers: if chance(0.5) { random::between(1..=10) } else { 0 },
            repeaters: 0,
            pause: seconds(0.5..4.0),
        };
        let bounds = Bounds { limit: random::between(2..=40), ..plan.bounds };
        let broken = chance(0.4);
        let further = [Kind::TokenExpired].into_iter().chain(Kind::CLOCK).filter(|_| chance(0.2));
        let faults = plan.faults.into_iter().chain(further).filter(|_| broken);
        let outages = [Kind::OutageInSend, Kind::OutageInCommit];
        let outage = chance(0.3).then(|| outages[random::between(0..outages.len())]);
        let faults = faults.chain(outage).collect();
        Self {
            instances: random::between(1..=4),
            enis: crowd.patient + crowd.hasty,
            callers: 0,
            watchers: random::between(0..=2),
            attach_per_second: random::between(2.0..20.0),
            describe_per_second: random::between(8.0..30.0),
            length: seconds(60.0..180.0),
            cloud: WorldRules {
                enforce_limit: true,
                eni_limit: bounds.limit.max(2),
                attach_time: spread(0.1..1.0),
                detach_time: spread(0.1..1.0),
                lag_by_id: spread(0.0..0.5),
                lag_by_instance: spread(0.0..0.5),
                ..plan.cloud
            },
            ledger_network: Quality::GOOD,
            cloud_network: Quality::GOOD,
            // Throttling alone: what it costs is known to the moment.
            cloud_faults: 0.0,
            throttled: sometimes(0.05),
            deaf: if chance(0.2) { 0.3 } else { 0.0 },
            hang_ups: 0.0,
            orphan: true,
            faults,
            calm: seconds(20.0..60.0),
            crowd: Some(crowd),
            bounds,
            ..plan
        }
    }

    fn cloud(seed: u64, bounds: &Bounds) -> WorldRules {
        let lag = bounds.lag.as_secs_f64();
        WorldRules {
            // Mostly the gateways alone keep the limit; at times ENS knows a lower one.
            enforce_limit: chance(0.2),
            eni_limit: bounds.limit.max(2) - usize::from(chance(0.5)),
            attach_time: spread(0.1..15.0),
            detach_time: spread(0.1..8.0),
            lag_by_id: spread(0.0..lag),
            lag_by_instance: spread(0.0..lag),
            in_use: if chance(0.5) { InUse::Documented } else { InUse::Example },
            unattached: if chance(0.5) { Unattached::Absent } else { Unattached::Empty },
            attaching_names_instance: chance(0.7),
            unknown_eni: if chance(0.5) { UnknownEni::Omitted } else { UnknownEni::Error },
            seed,
            ..WorldRules::default()
        }
    }
}
