//! What goes wrong, and how it is brought about.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use eni_gateway::simulator::{Action, Effect, Fault};
use rand::prelude::*;
use tokio::time::{sleep, timeout};

use crate::arena::{Arena, CROWDED};
use crate::callers::Caller;
use crate::gateway::Gateway;
use crate::ledger::Form;
use crate::support::link::Mode;

/// How long a moment may be waited for: other faults may strike the call that shall reach it.
const MOMENT: Duration = Duration::from_secs(20);
/// The recovery hold-down and the lease by the settings of [`crate::arena`].
const HOLD: Duration = Duration::from_millis(19_500);
const LEASE: Duration = Duration::from_secs(5);
/// How long sentinels and cluster nodes may take to name another primary.
const NEW_PRIMARY: Duration = Duration::from_secs(15);
/// How long a gateway may take to start on a busy machine.
const START: Duration = Duration::from_secs(5);
/// How long ENS holds a call whose moment has come.
const HELD: Duration = Duration::from_millis(800);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    Kill,
    KillBeforeSend,
    KillAtArrival,
    KillBeforeAnswer,
    Terminate,
    PauseWithinLease,
    PausePastLease,
    PausePastGrace,
    PauseBeforeSend,
    PauseAtArrival,
    PauseBeforeAnswer,
    ClockJump,
    RedisClock,
    LinkCut,
    LinkDeaf,
    RedisRestart,
    RedisEmpty,
    RedisFlush,
    RedisFreeze,
    FailOver,
    MoveSlots,
    EnsResets,
    EnsThrottles,
    EnsSlow,
}

/// A moment in the life of one send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Reserved and written, and not sent.
    Reserved,
    /// Come to ENS, and not applied.
    Arrived,
    /// Applied, and not answered.
    Applied,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kill => "gateway killed",
            Self::KillBeforeSend => "killed between reserve and send",
            Self::KillAtArrival => "killed between send and effect",
            Self::KillBeforeAnswer => "killed between effect and answer",
            Self::Terminate => "gateway told to stop",
            Self::PauseWithinLease => "paused 0.5-3 s (lease 5 s)",
            Self::PausePastLease => "paused 5.3-9 s (past the lease)",
            Self::PausePastGrace => "paused 14.5-17 s (past the grace)",
            Self::PauseBeforeSend => "paused between reserve and send",
            Self::PauseAtArrival => "paused between send and effect",
            Self::PauseBeforeAnswer => "paused between effect and answer",
            Self::ClockJump => "a gateway's clock jumps",
            Self::RedisClock => "Redis' clock steps",
            Self::LinkCut => "cut off from Redis",
            Self::LinkDeaf => "half-open to Redis",
            Self::RedisRestart => "Redis restarted with its data",
            Self::RedisEmpty => "Redis restarted without its data",
            Self::RedisFlush => "FLUSHALL",
            Self::RedisFreeze => "a Redis primary stands still",
            Self::FailOver => "a Redis primary killed",
            Self::MoveSlots => "slots moved",
            Self::EnsResets => "ENS resets everything",
            Self::EnsThrottles => "ENS throttles everything",
            Self::EnsSlow => "ENS answers late",
        })
    }
}

impl Kind {
    /// Whether it can be had here.
    pub(crate) fn suits(self, arena: &Arena) -> bool {
        match self {
            Self::KillBeforeSend | Self::PauseBeforeSend | Self::LinkCut | Self::LinkDeaf => {
                arena.gateways[0].link.is_some()
            }
            Self::RedisRestart | Self::RedisEmpty => arena.form == Form::One,
            Self::FailOver => arena.form != Form::One,
            Self::MoveSlots => arena.form == Form::Cluster,
            Self::ClockJump => arena.gateways[0].clock.is_some(),
            Self::RedisClock => arena.redis_clock_steps(),
            _ => true,
        }
    }

    /// Does it, and undoes it; only killed servers stay away. `false`: its moment did not come.
    pub(crate) async fn strike(self, arena: &Arena, spare: &mut Caller, random: &mut StdRng) -> bool {
        let mut millis = |from, to| Duration::from_millis(random.random_range(from..to));
        match self {
            Self::Kill => kill(arena, random).await,
            Self::Terminate => {
                let gateway = &arena.gateways[arena.any(random)];
                gateway.terminate().await;
                gateway.revive(&arena.stage).await;
            }
            Self::PauseWithinLease => pause(arena, millis(500, 3_000), random).await,
            Self::PausePastLease => pause(arena, millis(5_300, 9_000), random).await,
            Self::PausePastGrace => pause(arena, millis(14_500, 17_000), random).await,
            Self::KillBeforeSend => return at(Moment::Reserved, arena, spare, None, random).await,
            Self::KillAtArrival => return at(Moment::Arrived, arena, spare, None, random).await,
            Self::KillBeforeAnswer => return at(Moment::Applied, arena, spare, None, random).await,
            Self::PauseBeforeSend | Self::PauseAtArrival | Self::PauseBeforeAnswer => {
                let spans = [millis(300, 3_000), millis(5_300, 9_000), millis(14_500, 17_000)];
                let lasts = spans.choose(random).copied();
                let moment = match self {
                    Self::PauseBeforeSend => Moment::Reserved,
                    Self::PauseAtArrival => Moment::Arrived,
                    _ => Moment::Applied,
                };
                return at(moment, arena, spare, lasts, random).await;
            }
            Self::ClockJump => {
                let Some(clock) = &arena.gateways[0].clock else {
                    return false;
                };
                let by = *["+3", "-3", "+20", "-20", "+3600"]
                    .choose(random)
                    .expect("there are some");
                // Read anew each second.
                clock.set(by);
                sleep(Duration::from_millis(random.random_range(2_000..5_000))).await;
                clock.set("+0");
                sleep(Duration::from_secs(1)).await;
            }
            Self::RedisClock => {
                let servers = arena.servers.lock().await;
                let Some(clock) = servers.clock() else { return false };
                let by = *["+1", "-1", "+75", "-75", "+3600", "-3600", "+0"]
                    .choose(random)
                    .expect("there are some");
                clock.set(by);
                sleep(Duration::from_secs(1)).await;
            }
            Self::LinkCut | Self::LinkDeaf => {
                let mode = if self == Self::LinkCut { Mode::Cut } else { Mode::Deaf };
                let lasts = millis(300, 4_000);
                // One gateway, or all.
                let one = arena.any(random);
                let all = random.random_bool(0.3);
                let links = || {
                    arena
                        .gateways
                        .iter()
                        .enumerate()
                        .filter(|(number, _)| all || *number == one)
                };
                links()
                    .filter_map(|(_, gateway)| gateway.link.as_ref())
                    .for_each(|link| link.set(mode));
                sleep(lasts).await;
                links()
                    .filter_map(|(_, gateway)| gateway.link.as_ref())
                    .for_each(|link| link.set(Mode::Open));
            }
            Self::RedisRestart => {
                arena.loses();
                arena.servers.lock().await.restart().await;
                arena.loses();
            }
            Self::RedisEmpty => {
                arena.loses();
                arena.servers.lock().await.restart_empty(millis(0, 3_000)).await;
                arena.loses();
            }
            Self::RedisFlush => {
                arena.loses();
                arena.servers.lock().await.flush(random).await;
                arena.loses();
            }
            Self::RedisFreeze => {
                let lasts = millis(300, 3_000);
                loses_by_failover(arena);
                arena.servers.lock().await.freeze(lasts, random).await;
                loses_by_failover(arena);
            }
            Self::FailOver => {
                loses_by_failover(arena);
                let mut servers = arena.servers.lock().await;
                servers.fail_over(random).await;
                loses_by_failover(arena);
                if arena.form == Form::Synced {
                    // Nothing is sent before it replicates again.
                    servers.revive().await;
                }
            }
            Self::MoveSlots => {
                arena.servers.lock().await.move_slots(random).await;
                arena.rolls_back();
            }
            Self::EnsResets => everything(arena, Effect::DropBefore, Duration::ZERO, millis(500, 4_000)).await,
            Self::EnsThrottles => {
                let effect = Effect::Throttle {
                    retry_after: Some(Duration::from_millis(500)),
                };
                everything(arena, effect, Duration::ZERO, millis(500, 4_000)).await;
            }
            // Longer than an Attach call may take.
            Self::EnsSlow => everything(arena, Effect::None, Duration::from_millis(1_700), millis(500, 4_000)).await,
        }
        true
    }
}

impl Kind {
    /// How long after its end it may still keep callers waiting: for a recovery hold-down and a new primary, or for the lease of who
    /// held a lock and a process that starts.
    pub(crate) fn recovery(self) -> Duration {
        match self {
            Self::RedisRestart
            | Self::RedisEmpty
            | Self::RedisFlush
            | Self::RedisFreeze
            | Self::RedisClock
            | Self::FailOver
            | Self::MoveSlots => HOLD + LEASE + NEW_PRIMARY,
            _ => LEASE + START,
        }
    }
}

/// With replicas that are waited for, a failover loses nothing that was sent.
fn loses_by_failover(arena: &Arena) {
    match arena.form {
        Form::Synced => arena.rolls_back(),
        _ => arena.loses(),
    }
}

async fn kill(arena: &Arena, random: &mut StdRng) {
    let number = arena.any(random);
    arena.ask_gateway(number).await;
    arena.gateways[number].kill().await;
    arena.gateways[number].revive(&arena.stage).await;
}

async fn pause(arena: &Arena, lasts: Duration, random: &mut StdRng) {
    let gateway = &arena.gateways[arena.any(random)];
    gateway.freeze().await;
    sleep(lasts).await;
    gateway.thaw().await;
}

async fn everything(arena: &Arena, effect: Effect, delay: Duration, lasts: Duration) {
    for action in [Action::AttachNetworkInterface, Action::DescribeNetworkInterfaces] {
        arena
            .stage
            .ens
            .fault(Fault::next(action, effect.clone()).delay(delay).times(u32::MAX));
    }
    sleep(lasts).await;
    arena.stage.ens.clear_faults();
}

/// Kills or pauses a gateway exactly when an attach over it has come so far.
async fn at(moment: Moment, arena: &Arena, spare: &mut Caller, pause: Option<Duration>, random: &mut StdRng) -> bool {
    let number = arena.any(random);
    let gateway = &arena.gateways[number];
    // One that is not crowded: it shall get a place soon.
    let instance = format!("i-{}", random.random_range(CROWDED..arena.instances));
    let eni = spare.eni().to_owned();
    let striking = async {
        let came = timeout(MOMENT, comes(moment, arena, gateway, &instance, &eni))
            .await
            .is_ok();
        if came {
            match pause {
                None => gateway.kill().await,
                Some(_) => gateway.freeze().await,
            }
        }
        if let Some(link) = &gateway.link {
            link.set(Mode::Open);
        }
        match (came, pause) {
            (true, None) => gateway.revive(&arena.stage).await,
            (true, Some(lasts)) => {
                sleep(lasts).await;
                gateway.thaw().await;
            }
            (false, _) => {}
        }
        came
    };
    let attaching = async {
        // Until the strike is prepared.
        sleep(Duration::from_millis(50)).await;
        spare.attach(&instance, Some(number)).await;
        spare.detach().await;
    };
    tokio::join!(striking, attaching).0
}

async fn comes(moment: Moment, arena: &Arena, gateway: &Gateway, instance: &str, eni: &str) {
    let hold = Fault::next(Action::AttachNetworkInterface, Effect::None).eni(eni);
    match (moment, &gateway.link) {
        (Moment::Reserved, Some(link)) => {
            // Disarmed before it was told: then the time is over anyway.
            let _ = link.arm(eni, Mode::Deaf).await;
        }
        (Moment::Reserved, None) => std::future::pending().await,
        (Moment::Arrived, _) => {
            arena.stage.ens.fault(hold.delay(HELD));
            until(|| {
                !arena
                    .stage
                    .ens
                    .faults()
                    .iter()
                    .any(|fault| fault.eni.as_deref() == Some(eni))
            })
            .await;
        }
        (Moment::Applied, _) => {
            arena.stage.ens.fault(hold.delay_answer(HELD));
            until(|| {
                arena
                    .stage
                    .ens
                    .world(|world, _| world.placement(eni).is_some_and(|at| at.occupies(instance)))
            })
            .await;
        }
    }
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        sleep(Duration::from_millis(2)).await;
    }
}

/// ENS is never quite well: now and then one call is lost, masked, delayed, cut off, or lied about, until the run is over.
pub(crate) async fn weather(arena: &Arena, mut random: StdRng) {
    while !arena.is_ending() {
        arena.stage.ens.fault(ailment(&mut random));
        sleep(Duration::from_millis(random.random_range(50..250))).await;
    }
    arena.stage.ens.clear_faults();
}

fn ailment(random: &mut StdRng) -> Fault {
    let millis = |random: &mut StdRng, most: u64| Duration::from_millis(random.random_range(0..most));
    let code = ["InvalidOperation.InvalidEniStatus", "Operation.Unexpected"];
    let effect = match random.random_range(0..14) {
        12 => Effect::Replay {
            after: millis(random, 500),
        },
        13 => Effect::RefuseApplied {
            code: (*code.choose(random).expect("there are some")).to_owned(),
            status: *[400, 429].choose(random).expect("there are some"),
            message: String::new(),
            retry_after: random.random_bool(0.2).then(|| millis(random, 500)),
        },
        0 => Effect::DropBefore,
        1 => Effect::DropAfter,
        2 => Effect::Mask,
        3 => Effect::Html {
            status: 502,
            apply: random.random(),
        },
        4 => Effect::NotJson { apply: random.random() },
        5 => Effect::Truncated,
        6 => Effect::AcceptThenFail,
        7 => Effect::AcceptThenForget,
        8 => Effect::ApplyLate {
            after: millis(random, 5_000),
        },
        9 => Effect::Throttle {
            retry_after: Some(millis(random, 200)),
        },
        10 => Effect::Refuse {
            code: "InternalError".to_owned(),
            status: 500,
            message: String::new(),
        },
        _ => Effect::None,
    };
    let action = match random.random_bool(0.8) {
        true => Action::AttachNetworkInterface,
        false => Action::DescribeNetworkInterfaces,
    };
    Fault::next(action, effect)
        .delay(millis(random, 200))
        .delay_answer(millis(random, 400))
}
