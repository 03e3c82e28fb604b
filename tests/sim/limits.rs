//! Limits of time and calls for every run, each with its reason. They come from the plan. Time that
//! the world takes (an outage, a hold-down, a breaker's pause) does not count.

use std::time::Duration;

use crate::cloud::{ATTEMPT_TIMEOUT, DESCRIBE_TIMEOUT};
use crate::faults::Kind;
use crate::network::Quality;
use crate::plan::{Crowd, Plan};

/// Longest pause between two polls of a waiting replica: a quarter of a second, jittered.
const POLL: Duration = Duration::from_millis(300);
/// A healthy exchange with the ledger or ENS takes two messages of 2 ms.
const EXCHANGE: Duration = Duration::from_millis(5);
/// Ledger calls of one turn: enter, queue or confirm, reserve, record the answer, hand over, and
/// one conflict.
const LEDGER_CALLS_PER_TURN: u32 = 6;
/// Time after which a ledger call that got no answer has been tried again: its timeout and the
/// pause after it.
const LEDGER_RETRY: Duration = Duration::from_millis(800);
/// The part of all describes that attaches have for themselves at least, whatever readers ask.
const ATTACHES_SHARE: f64 = 0.25;
/// Allowance for what is rounded: a pause that has just begun, a monitor's interval.
const ALLOWANCE: Duration = Duration::from_secs(1);

/// A breaker's probe goes out within this time, or returns.
pub(crate) const PROBE: Duration = Duration::from_secs(2);
/// How long the product waits out an outage of the ledger.
pub(crate) const LEDGER_PATIENCE: Duration = Duration::from_secs(3);
/// A call of this length had time to receive why it waits.
pub(crate) const LONG_ENOUGH: Duration = Duration::from_millis(500);
/// A read is answered within this time: with what ENS shows, from the ledger, or with a reason.
pub(crate) const READ: Duration = Duration::from_secs(12);
/// How often a due entry without a record may be asked about before it is dropped.
pub(crate) const ORPHANED_DUE: usize = 2;
/// Maximum number of ledger calls of one replica for one request in one second. A poll is one call,
/// each change of the record causes another one, and a conflict repeats it.
pub(crate) const LEDGER_CALLS_PER_REQUEST: u32 = 60;
/// The same for the calls that name no request, of one instance: what the tracker and watches need,
/// and beside it what each caller may cause by calling, being answered and leaving.
pub(crate) fn ledger_calls_per_instance(plan: &Plan) -> u32 {
    let crowd =
        plan.crowd.as_ref().map_or(0, |crowd| crowd.patient + crowd.hasty + crowd.repeaters);
    100 + 15 * u32::try_from(plan.callers + crowd).unwrap_or(u32::MAX)
}

/// A caller whose gateway does not reach the ledger is answered within this time: the patience of
/// the product, and ENS's answer where an attach was sent for it.
pub(crate) fn ledger_down(sent: bool) -> Duration {
    LEDGER_PATIENCE + ALLOWANCE * 2 + if sent { ATTEMPT_TIMEOUT } else { Duration::ZERO }
}

/// Sends of one request at once: three copies, and one with new credentials.
const SENDS: u32 = 4;

/// Maximum number of sends of one request so long after it began: after a throttled or failed
/// connect the next try comes a second later.
pub(crate) const fn sends(elapsed: Duration) -> u32 {
    SENDS + elapsed.as_secs() as u32
}

fn is_good(quality: Quality) -> bool {
    quality.lost == 0.0 && quality.slow == 0.0
}

/// How long a step on the ledger takes at most, tried again where an answer is lost.
fn ledger(plan: &Plan) -> Duration {
    if is_good(plan.ledger_network) { EXCHANGE } else { LEDGER_RETRY * 4 }
}

/// Whether ENS answers at once.
fn ens_is_good(plan: &Plan) -> bool {
    is_good(plan.cloud_network) && plan.cloud_faults == 0.0
}

/// How long attaches wait for the permits of so many describes.
fn describes(plan: &Plan, number: usize) -> Duration {
    Duration::from_secs_f64(number as f64 / (plan.describe_per_second * ATTACHES_SHARE))
}

/// Longest time in which a caller that waits is answered.
///
/// A caller has at most all others before it, and while it waits each of them may come again in
/// another line. Lines (one per replica and instance) take turns, so that each of those before it
/// lets every other line have one turn: callers × lines turns. A turn takes a permit for its
/// attach, one for a describe, a poll where the hint is lost, its ledger calls and its ENS calls.
/// Callers that repeat the attach of an attached pair share one describe in each replica, which may
/// come before that of the turn.
pub(crate) fn wait(plan: &Plan, crowd: &Crowd) -> Duration {
    let callers = u32::try_from(crowd.patient + crowd.hasty).unwrap_or(u32::MAX);
    let lines = callers.min(u32::try_from(plan.gateways * plan.instances).unwrap_or(u32::MAX));
    let describes = if crowd.repeaters > 0 { 1 + plan.gateways } else { 1 };
    let permits =
        Duration::from_secs_f64(1.0 / plan.attach_per_second) + self::describes(plan, describes);
    let hint = if plan.deaf > 0.0 { POLL } else { EXCHANGE };
    let ens = if ens_is_good(plan) { EXCHANGE * 2 } else { DESCRIBE_TIMEOUT + ATTEMPT_TIMEOUT };
    let turn = permits + hint + ledger(plan) * LEDGER_CALLS_PER_TURN + ens;
    turn * callers * lines + ALLOWANCE
}

/// Longest time that a free lock stays free while a live place in its queue waits: one poll, which
/// acquires it.
pub(crate) fn free_lock(plan: &Plan) -> Duration {
    POLL + ledger(plan) * 2 + Duration::from_millis(100)
}

/// Longest time that the holder of a lock does nothing with it. It waits for no permit, and tries
/// its ledger calls again; while an ENS call is on its way the time does not count.
pub(crate) fn idle_lock(plan: &Plan) -> Duration {
    ledger(plan) * 3 + Duration::from_millis(700)
}

/// How long after the end of a fault its traces may last; `None`: callers need not notice it.
pub(crate) fn recovery(kind: Kind, plan: &Plan) -> Option<Duration> {
    let bounds = &plan.bounds;
    match kind {
        // The lease of the lock's holder, and a grant on trial to a replica that is gone.
        Kind::Crash
        | Kind::Drain
        | Kind::Pause
        | Kind::Unreachable
        | Kind::OutageInSend
        | Kind::OutageInCommit => Some(bounds.lease + ALLOWANCE * 2),
        // The partition opens, and what was observed before does not count.
        Kind::Restart | Kind::Wipe | Kind::Failover => {
            Some(bounds.recovery_hold_down() + bounds.lease)
        }
        // A describe of each instance, and the order of the queues. A hold-down that the step
        // restarts counts by itself.
        Kind::ClockBack | Kind::ClockForward => {
            Some(describes(plan, plan.instances) + POLL + ALLOWANCE)
        }
        // What is on its way, and its timeout.
        Kind::CloudOut => Some(Duration::from_secs(20) + ATTEMPT_TIMEOUT),
        // The pause of the breaker counts from its last trip.
        Kind::Throttle | Kind::TokenExpired => Some(ALLOWANCE),
        Kind::ExternalAttach | Kind::ExternalDetach => None,
    }
}

/// How long a breaker is open after ENS throttled: its pause with its jitter, and one interval for
/// its probe.
pub(crate) fn breaker(pause: Duration) -> Duration {
    pause + ALLOWANCE
}
