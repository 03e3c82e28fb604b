//! The budget is implemented in Rust and in Lua. Both must decide every request alike.
//!
//! The script runs on a real server with a given time; the memory ledger runs on a stopped clock.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use eni_gateway::ledger::Memory;
use eni_gateway::model::Timestamp;
use eni_gateway::rate_limit::{
    RateClass, RateLimitDecision, RateLimitRequest, RateLimitStore, Rates, Waits,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::redis::Server;

const START: u64 = 1_700_000_000_000_000;

fn orders() -> impl Strategy<Value = Vec<(u64, RateLimitRequest)>> {
    let class = || {
        prop_oneof![
            3 => Just(RateClass::Attach),
            3 => Just(RateClass::Describe),
            2 => Just(RateClass::Read),
            3 => Just(RateClass::Track),
            1 => Just(RateClass::Reconcile)
        ]
    };
    // Now and then from before the clock began, and mostly long enough.
    let waits = (prop_oneof![0_u64..300_000, 0_u64..20_000_000], 0_u64..1_000_000);
    let waits = waits.prop_map(|(since, most)| Waits {
        since: Duration::from_micros(since),
        most: Duration::from_micros(most),
    });
    let order = prop_oneof![
        6 => class().prop_map(|class| RateLimitRequest::Take(class, None)),
        12 => (class(), waits).prop_map(|(class, waits)| RateLimitRequest::Take(class, Some(waits))),
        2 => (class(), any::<bool>()).prop_map(|(class, probe)| RateLimitRequest::GiveBack { class, probe }),
        1 => (class(), 0_u64..2_000_000).prop_map(|(class, us)| RateLimitRequest::Trip(class, Duration::from_micros(us))),
        2 => class().prop_map(RateLimitRequest::Close),
    ];
    let pause = prop_oneof![4 => 0_u64..100_000, 1 => 0_u64..12_000_000];
    proptest::collection::vec((pause, order), 1..120)
}

/// Rates at which tokens are taken one by one, and in chunks.
const RATES: [(f64, f64); 2] = [(5.0, 20.0), (500.0, 1000.0)];

/// The script's arguments for an order, at the first rates or the second.
fn arguments(order: RateLimitRequest, fast: bool) -> Vec<String> {
    let family = |class| {
        if class == RateClass::Attach { "attach" } else { "describe" }
    };
    let lanes = |class| match (class, fast) {
        (RateClass::Attach, false) => "1 attach 200000 300000",
        (RateClass::Describe, false) => "1 callers 133333 200000 describe 50000 200000",
        (RateClass::Read, false) => "1 readers 400000 600000 describe 50000 200000",
        (RateClass::Track, false) => "1 describe 50000 200000",
        (RateClass::Reconcile, false) => "1 reconciliations 1000000 1500000 describe 50000 200000",
        (RateClass::Attach, true) => "5 attach 2000 200000",
        (RateClass::Describe, true) => "3 callers 2667 200025 describe 1000 200000",
        (RateClass::Read, true) => "1 readers 8000 200000 describe 1000 200000",
        (RateClass::Track, true) => "1 describe 1000 200000",
        (RateClass::Reconcile, true) => "1 reconciliations 20000 200000 describe 1000 200000",
    };
    let text = match order {
        RateLimitRequest::Take(class, waits) => {
            let (chunk, lanes) = lanes(class).split_once(' ').unwrap();
            let own: u64 = lanes.split(' ').nth(1).unwrap().parse().unwrap();
            let ordered = u8::from(own >= 20_000);
            let (since, most) = waits.map_or((0, -1), |Waits { since, most }| {
                (since.as_micros(), i64::try_from(most.as_micros()).unwrap())
            });
            let family = family(class);
            format!("take {family} 10000000 250000 {chunk} {ordered} {since} {most} {lanes}")
        }
        RateLimitRequest::GiveBack { class, probe } => {
            let give = if probe { "give-probe" } else { "give" };
            let (_, lanes) = lanes(class).split_once(' ').unwrap();
            format!("{give} {} {lanes}", family(class))
        }
        RateLimitRequest::Trip(class, pause) => {
            format!("trip {} {}", family(class), pause.as_micros())
        }
        RateLimitRequest::Close(class) => format!("close {}", family(class)),
    };
    text.split(' ').map(str::to_owned).collect()
}

/// The script with a given time, on a server of its own.
struct ScriptBuckets {
    _server: Server,
    script: redis::Script,
    // Blocking, so that a stopped clock stays where it is.
    connection: RefCell<redis::Connection>,
}

impl ScriptBuckets {
    fn new() -> Self {
        let source = include_str!("../../../../src/ledger/redis/take.lua");
        let stopped = source.replace("redis.call('TIME')", "{ KEYS[2], KEYS[3] }");
        assert_ne!(source, stopped);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let server = runtime.block_on(Server::start());
        let connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        Self {
            _server: server,
            script: redis::Script::new(&stopped),
            connection: RefCell::new(connection),
        }
    }

    /// Microseconds to wait.
    fn order(&self, key: &str, order: RateLimitRequest, now: u64, fast: bool) -> i64 {
        let mut script = self.script.key(key);
        script.key(now / 1_000_000).key(now % 1_000_000).arg(arguments(order, fast));
        script.invoke(&mut *self.connection.borrow_mut()).unwrap()
    }
}

#[test]
fn script_and_memory_keep_the_same_buckets() {
    let script = ScriptBuckets::new();
    let stopped = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let case = Cell::new(0);
    TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() })
        .run(&orders(), |orders| {
            case.set(case.get() + 1);
            let key = format!("case-{}", case.get());
            stopped.block_on(async {
                let fast = case.get() % 2 == 0;
                let (attach, describe) = RATES[usize::from(fast)];
                let rates = Rates::new(attach, describe).unwrap();
                let memory = Memory::beginning_at(rates, Timestamp::from_micros(START));
                for (pause, order) in orders {
                    tokio::time::advance(Duration::from_micros(if fast {
                        pause / 100
                    } else {
                        pause
                    }))
                    .await;
                    let now = memory.clock().as_micros();
                    let expected = match memory.take(order).await.unwrap() {
                        RateLimitDecision::Granted => 0,
                        RateLimitDecision::Probe => -1,
                        RateLimitDecision::Chunk(further) => -1 - i64::from(further),
                        RateLimitDecision::Wait(wait) => wait.as_micros() as i64,
                    };
                    prop_assert_eq!(
                        script.order(&key, order, now, fast),
                        expected,
                        "{:?} at {} us",
                        order,
                        now - START
                    );
                }
                Ok(())
            })
        })
        .unwrap();
}

/// As a failover to a server with a slower clock does.
#[test]
fn a_clock_that_was_set_back_does_not_block_the_budget() {
    let script = ScriptBuckets::new();
    let take = RateLimitRequest::Take(RateClass::Attach, None);
    assert_eq!(script.order("budget", take, START + 3_600_000_000, false), 0);
    assert_eq!(script.order("budget", take, START, false), 200_000, "an interval, not an hour");
    assert_eq!(script.order("budget", take, START + 200_000, false), 0);

    let trip = RateLimitRequest::Trip(RateClass::Attach, Duration::from_secs(3));
    assert_eq!(script.order("budget", trip, START + 600_000_000, false), 0);
    assert_eq!(script.order("budget", take, START, false), 3_000_000);
    assert_eq!(script.order("budget", take, START + 2_000_000, false), 1_000_000);
    assert_eq!(script.order("budget", take, START + 604_000_000, false), -1);
    assert_eq!(script.order("budget", take, START + 4_000_000, false), 250_000);
    assert_eq!(
        script.order("budget", take, START + 14_000_000, false),
        200_000,
        "of the lane: the probe never came back"
    );
    assert_eq!(script.order("budget", take, START + 14_200_000, false), -1);
}
