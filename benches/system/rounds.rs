//! Cases in rounds: each side runs once in each round, back and forth, so that what else
//! the machine does affects all.

use std::time::Duration;

use serde::Serialize;

use crate::cases::Case;
use crate::load::{self, Calls};
use crate::side::{Program, Side};
use crate::stats::{Figure, figure, percentile};
use crate::{Result, progress};

/// Connections over which calls at a fixed rate are spread.
const CONNECTIONS_AT_RATE: usize = 4;
/// Most calls of a closed round, for each second of it. A round that runs out of targets ends
/// early.
const MOST_A_SECOND: f64 = 20_000.0;
/// The same where each tenth call needs a describe before the round.
const MOST_RECENT_A_SECOND: f64 = 6_000.0;

/// How calls come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// So many in flight in all, spread over the connections.
    InFlight { connections: usize, calls: usize },
    /// So many a second.
    PerSecond(u32),
}

impl Load {
    fn name(self) -> String {
        match self {
            Self::InFlight { connections, calls } => format!("{connections}×{calls}"),
            Self::PerSecond(rate) => format!("{rate}/s"),
        }
    }
}

/// What one round showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) calls: usize,
    pub(crate) failures: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// CPU time of the server processes for each call, until the last answer.
    pub(crate) cpu_us_a_call: f64,
    /// The same until every attempt has settled.
    pub(crate) settled_cpu_us_a_call: f64,
    pub(crate) scripts_a_call: f64,
    pub(crate) ens_calls_a_call: f64,
}

/// All rounds of one side under one load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) case: &'static str,
    pub(crate) load: String,
    pub(crate) side: String,
    pub(crate) rounds: Vec<Round>,
}

impl Series {
    /// Median and spread of one number over the rounds.
    pub(crate) fn figure(&self, number: impl Fn(&Round) -> f64) -> Figure {
        figure(self.rounds.iter().map(number))
    }

    /// Median and spread of the quotient of this side's number and the floor's, round by round.
    pub(crate) fn ratio(&self, floor: &Self, number: impl Fn(&Round) -> f64) -> Figure {
        let pairs = self.rounds.iter().zip(&floor.rounds);
        figure(pairs.map(|(own, floor)| number(own) / number(floor)))
    }
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    pub(crate) count: usize,
    pub(crate) seconds: f64,
}

/// Runs one case under these loads on all sides.
pub(crate) async fn run(
    programs: &[Program],
    case: Case,
    loads: &[Load],
    rounds: Rounds,
) -> Result<Vec<Series>> {
    let mut sides = Vec::new();
    for program in programs {
        let side = Side::start(program, 1, Duration::ZERO).await?;
        case.set_up(&side).await?;
        sides.push(Measured { side, case, targets: 0, attached: 0 });
    }
    for measured in &mut sides {
        let warm = Load::InFlight { connections: 4, calls: 32 };
        measured.round(warm, rounds.seconds / 3.0).await?;
    }
    let mut all = Vec::new();
    for &load in loads {
        progress(&format!("{}, {}", case.name(), load.name()));
        let mut series: Vec<Series> = programs
            .iter()
            .map(|program| Series {
                case: case.name(),
                load: load.name(),
                side: program.name().to_owned(),
                rounds: Vec::new(),
            })
            .collect();
        for round in 0..rounds.count {
            let mut order: Vec<usize> = (0..sides.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for number in order {
                let shown = sides[number].round(load, rounds.seconds).await?;
                series[number].rounds.push(shown);
            }
        }
        all.extend(series);
    }
    Ok(all)
}

/// A side and how often it was called.
struct Measured {
    side: Side,
    case: Case,
    targets: usize,
    attached: usize,
}

impl Measured {
    async fn round(&mut self, load: Load, seconds: f64) -> Result<Round> {
        let (case, side) = (self.case, &self.side);
        let connections = match load {
            Load::InFlight { connections, .. } => connections,
            Load::PerSecond(_) => CONNECTIONS_AT_RATE,
        };
        let most = match (load, case) {
            (Load::PerSecond(rate), _) => f64::from(rate),
            (_, Case::AttachRecent) => MOST_RECENT_A_SECOND,
            _ => MOST_A_SECOND,
        };
        let clients = side.connect(connections).await?;
        let count = (most * seconds).ceil() as usize;
        let targets = case.targets(side, &clients, self.targets, count).await?;
        self.targets += 1;
        let call = move |client, target| case.call(client, target);
        let before = side.usage().await?;
        let calls = match load {
            Load::InFlight { calls, .. } => {
                load::closed(&clients, calls, targets, Duration::from_secs_f64(seconds), call)
                    .await?
            }
            Load::PerSecond(rate) => load::open(&clients, rate, targets, call).await?,
        };
        let answered_at = side.usage().await?;
        if case.attaches() {
            self.attached += calls.latencies.len();
            side.settled(self.attached).await?;
        }
        let after = side.usage().await?;
        let failure = calls.failures.first();
        if let Some(failure) = failure {
            progress(&format!(
                "  {}: {} failed: {failure}",
                side.program.name(),
                calls.failures.len()
            ));
        }
        let answered = calls.latencies.len().max(1) as f64;
        Ok(Round {
            cpu_us_a_call: (answered_at.cpu - before.cpu).as_secs_f64() * 1e6 / answered,
            settled_cpu_us_a_call: (after.cpu - before.cpu).as_secs_f64() * 1e6 / answered,
            scripts_a_call: (after.scripts - before.scripts) as f64 / answered,
            ens_calls_a_call: (after.ens_calls - before.ens_calls) as f64 / answered,
            ..Round::of(calls)
        })
    }
}

impl Round {
    fn of(calls: Calls) -> Self {
        let Calls { elapsed, mut latencies, failures } = calls;
        latencies.sort_unstable();
        Self {
            calls: latencies.len(),
            failures: failures.len(),
            per_second: latencies.len() as f64 / elapsed.as_secs_f64(),
            p50_us: percentile(&latencies, 0.5).as_secs_f64() * 1e6,
            p99_us: percentile(&latencies, 0.99).as_secs_f64() * 1e6,
            cpu_us_a_call: 0.0,
            settled_cpu_us_a_call: 0.0,
            scripts_a_call: 0.0,
            ens_calls_a_call: 0.0,
        }
    }
}
