//! The faults, and how to cause them.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use eni_gateway::simulator::{Action, Effect, Fault};
use rand::prelude::*;
use tokio::time::{sleep, timeout};

use crate::callers::Caller;
use crate::environment::{CROWDED, Environment};
use crate::gateway::Gateway;
use crate::ledger::Form;
use crate::support::ens_faults::EnsFaults;
use crate::support::link::Mode;

/// How long a moment may be waited for: other faults may hit the call that shall reach it.
const MOMENT: Duration = Duration::from_secs(20);
/// The recovery hold-down and the lease by the settings of [`crate::environment`].
const HOLD_DOWN: Duration = Duration::from_millis(19_500);
const LEASE: Duration = Duration::from_secs(5);
/// How long sentinels and cluster nodes may take to name another primary.
pub(crate) const ELECTION: Duration = Duration::from_secs(15);
/// How long a new primary may keep callers waiting: for its hold-down, and for gateways that find
/// it on a busy machine.
pub(crate) const NEW_PRIMARY_SERVES: Duration =
    HOLD_DOWN.saturating_add(LEASE).saturating_add(START);
/// How long a gateway may take to start on a busy machine.
const START: Duration = Duration::from_secs(5);
/// The faults of ENS that happen all the time.
const ENS_FAULTS: EnsFaults = EnsFaults { applied_within: 5_000, hostile: true };
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
            Self::Terminate => "gateway terminated",
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
    pub(crate) fn suits(self, environment: &Environment) -> bool {
        match self {
            Self::KillBeforeSend | Self::PauseBeforeSend | Self::LinkCut | Self::LinkDeaf => {
                environment.gateways[0].link.is_some()
            }
            Self::RedisClock | Self::RedisRestart | Self::RedisEmpty => {
                environment.form == Form::One
            }
            Self::FailOver => environment.form != Form::One,
            Self::MoveSlots => environment.form == Form::Cluster,
            _ => true,
        }
    }

    /// Does it, and undoes it; only killed servers stay away. `false`: its moment did not come.
    pub(crate) async fn inject(
        self,
        environment: &Environment,
        spare: &mut Caller,
        random: &mut StdRng,
    ) -> bool {
        let mut millis = |from, to| Duration::from_millis(random.random_range(from..to));
        match self {
            Self::Kill => kill(environment, random).await,
            Self::Terminate => {
                let gateway = &environment.gateways[environment.any(random)];
                gateway.terminate().await;
                gateway.revive(&environment.stage).await;
            }
            Self::PauseWithinLease => pause(environment, millis(500, 3_000), random).await,
            Self::PausePastLease => pause(environment, millis(5_300, 9_000), random).await,
            Self::PausePastGrace => pause(environment, millis(14_500, 17_000), random).await,
            Self::KillBeforeSend => {
                return at(Moment::Reserved, environment, spare, None, random).await;
            }
            Self::KillAtArrival => {
                return at(Moment::Arrived, environment, spare, None, random).await;
            }
            Self::KillBeforeAnswer => {
                return at(Moment::Applied, environment, spare, None, random).await;
            }
            Self::PauseBeforeSend | Self::PauseAtArrival | Self::PauseBeforeAnswer => {
                let spans = [millis(300, 3_000), millis(5_300, 9_000), millis(14_500, 17_000)];
                let lasts = spans.choose(random).copied();
                let moment = match self {
                    Self::PauseBeforeSend => Moment::Reserved,
                    Self::PauseAtArrival => Moment::Arrived,
                    _ => Moment::Applied,
                };
                return at(moment, environment, spare, lasts, random).await;
            }
            Self::ClockJump => {
                let clock = &environment.gateways[environment.any(random)].clock;
                clock.set(*[3, -3, 20, -20, 3600].choose(random).expect("there are some"));
                sleep(Duration::from_millis(random.random_range(2_000..5_000))).await;
                clock.set(0);
            }
            Self::RedisClock => {
                environment.servers.lock().await.step_clock(random);
                environment.record_other_clock();
            }
            Self::LinkCut | Self::LinkDeaf => {
                let mode = if self == Self::LinkCut { Mode::Cut } else { Mode::Deaf };
                let lasts = millis(300, 4_000);
                // One gateway, or all.
                let one = environment.any(random);
                let all = random.random_bool(0.3);
                let links = || {
                    environment
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
                environment.record_loss();
                environment.servers.lock().await.restart().await;
                environment.record_loss();
            }
            Self::RedisEmpty => {
                environment.record_loss();
                environment.servers.lock().await.restart_empty(millis(0, 3_000)).await;
                environment.record_loss();
            }
            Self::RedisFlush => {
                environment.record_loss();
                environment.servers.lock().await.flush(random).await;
                environment.record_loss();
            }
            Self::RedisFreeze => {
                let lasts = millis(300, 3_000);
                loses_by_failover(environment);
                environment.servers.lock().await.freeze(lasts, random).await;
                loses_by_failover(environment);
            }
            Self::FailOver => {
                loses_by_failover(environment);
                let mut servers = environment.servers.lock().await;
                servers.fail_over(random).await;
                loses_by_failover(environment);
                if environment.form == Form::Synced {
                    // Nothing is sent before it replicates again.
                    servers.revive(random).await;
                }
            }
            Self::MoveSlots => {
                environment.servers.lock().await.move_slots(random).await;
                environment.record_rollback();
                environment.record_other_clock();
            }
            Self::EnsResets => {
                everything(environment, Effect::DropBefore, Duration::ZERO, millis(500, 4_000))
                    .await
            }
            Self::EnsThrottles => {
                let effect = Effect::Throttle { retry_after: Some(Duration::from_millis(500)) };
                everything(environment, effect, Duration::ZERO, millis(500, 4_000)).await;
            }
            // Longer than an Attach call may take.
            Self::EnsSlow => {
                everything(
                    environment,
                    Effect::None,
                    Duration::from_millis(1_700),
                    millis(500, 4_000),
                )
                .await
            }
        }
        true
    }
}

impl Kind {
    /// How long after its end it may still keep callers waiting: for a recovery hold-down and a new
    /// primary, or for the lease of who held a lock and a process that starts.
    pub(crate) fn recovery(self) -> Duration {
        match self {
            Self::RedisRestart
            | Self::RedisEmpty
            | Self::RedisFlush
            | Self::RedisFreeze
            | Self::RedisClock
            | Self::FailOver
            | Self::MoveSlots => NEW_PRIMARY_SERVES + ELECTION,
            _ => LEASE + START,
        }
    }
}

/// With replicas that are waited for, a failover loses nothing that was sent.
fn loses_by_failover(environment: &Environment) {
    if environment.form != Form::One {
        environment.record_other_clock();
    }
    match environment.form {
        Form::Synced => environment.record_rollback(),
        _ => environment.record_loss(),
    }
}

async fn kill(environment: &Environment, random: &mut StdRng) {
    let number = environment.any(random);
    environment.ask_gateway(number).await;
    environment.gateways[number].kill().await;
    environment.gateways[number].revive(&environment.stage).await;
}

async fn pause(environment: &Environment, lasts: Duration, random: &mut StdRng) {
    let gateway = &environment.gateways[environment.any(random)];
    gateway.freeze().await;
    sleep(lasts).await;
    gateway.thaw().await;
}

async fn everything(environment: &Environment, effect: Effect, delay: Duration, lasts: Duration) {
    for action in [Action::AttachNetworkInterface, Action::DescribeNetworkInterfaces] {
        environment
            .stage
            .ens
            .fault(Fault::next(action, effect.clone()).delay(delay).times(u32::MAX));
    }
    sleep(lasts).await;
    environment.stage.ens.clear_faults();
}

/// Kills or pauses a gateway exactly when an attach over it has come so far.
async fn at(
    moment: Moment,
    environment: &Environment,
    spare: &mut Caller,
    pause: Option<Duration>,
    random: &mut StdRng,
) -> bool {
    let number = environment.any(random);
    let gateway = &environment.gateways[number];
    // One that is not crowded: it shall get a place soon.
    let instance = format!("i-{}", random.random_range(CROWDED..environment.instances));
    let eni = spare.eni().to_owned();
    let injecting = async {
        let came =
            timeout(MOMENT, comes(moment, environment, gateway, &instance, &eni)).await.is_ok();
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
            (true, None) => gateway.revive(&environment.stage).await,
            (true, Some(lasts)) => {
                sleep(lasts).await;
                gateway.thaw().await;
            }
            (false, _) => {}
        }
        came
    };
    let attaching = async {
        // Until the fault is prepared.
        sleep(Duration::from_millis(50)).await;
        spare.attach(&instance, Some(number)).await;
        spare.detach().await;
    };
    tokio::join!(injecting, attaching).0
}

async fn comes(
    moment: Moment,
    environment: &Environment,
    gateway: &Gateway,
    instance: &str,
    eni: &str,
) {
    let next = Fault::next(Action::AttachNetworkInterface, Effect::None).eni(eni);
    match (moment, &gateway.link) {
        (Moment::Reserved, Some(link)) => {
            // It may be disarmed first: then the time is over anyway.
            let _ = link.arm(eni, Mode::Deaf).await;
        }
        (Moment::Reserved, None) => std::future::pending().await,
        (Moment::Arrived, _) => {
            environment.stage.ens.fault(next.delay(HELD));
            until(|| {
                !environment
                    .stage
                    .ens
                    .faults()
                    .iter()
                    .any(|fault| fault.eni.as_deref() == Some(eni))
            })
            .await;
        }
        (Moment::Applied, _) => {
            environment.stage.ens.fault(next.delay_answer(HELD));
            until(|| {
                environment
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

/// ENS is never quite well: now and then one call is lost, masked, delayed, cut off, or lied about,
/// until the run is over.
pub(crate) async fn weather(environment: &Environment, mut random: StdRng) {
    while !environment.is_ending() {
        environment.stage.ens.fault(ENS_FAULTS.draw(&mut random));
        sleep(Duration::from_millis(random.random_range(50..250))).await;
    }
    environment.stage.ens.clear_faults();
}
