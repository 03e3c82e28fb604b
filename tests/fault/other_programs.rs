//! Other parties: readers, and programs that attach without the gateway and without a check of free
//! slots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use eni_gateway::grpc::proto::watch_attachment_response::Event;
use eni_gateway::grpc::proto::{
    Attachment, GetAttachmentRequest, ListAttachmentsRequest, ListAttachmentsResponse,
    WatchAttachmentRequest,
};
use eni_gateway::simulator::{EniStatus, Placement};
use prost_types::Timestamp;
use rand::prelude::*;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::ens_truth::{LAG, omitted};
use crate::environment::{CROWDED, Environment};
use crate::episode::Violation;
use crate::gateway::Client;
use crate::ledger::AHEAD;
use crate::support::gateway::{eni, within};

/// Readers of each ledger.
pub(crate) const READERS: usize = 3;
/// ENIs that others attach.
pub(crate) const EXTERNAL: usize = 8;
/// Instances that they attach to.
pub(crate) const SHARED: std::ops::Range<usize> = CROWDED..CROWDED + 4;
/// Deadline of a read.
const DEADLINE: Duration = Duration::from_secs(10);
/// How much later than its deadline the answer to a read may come on a busy machine.
const ALLOWANCE: Duration = Duration::from_secs(1);

/// How old the describe of a complete answer may be.
const OBSERVED_FOR: Duration = Duration::from_secs(60);

/// What a read came to.
enum Read {
    /// All of an instance, and when ENS was asked for it.
    Whole(Vec<Attachment>, Option<Timestamp>),
    /// One attachment, or that there is none.
    One(Option<Box<Attachment>>),
    /// Nothing that claims to be complete.
    Partial,
    Refused(Status),
    NoAnswer,
}

/// Lists, gets and watches by turns, over any gateway, until the run ends. Checks each answer.
pub(crate) async fn read(environment: Arc<Environment>, mut random: StdRng) {
    while !environment.is_ending() {
        let number = environment.any(&mut random);
        let gateway = &environment.gateways[number];
        let (instance, interface) = pair(&environment, &mut random);
        let kind = random.random_range(0..5);
        let (asked, began) = (environment.elapsed(), Instant::now());
        let reading = async {
            match kind {
                0 => watch(gateway.client(), &instance).await,
                1 | 2 => get(gateway.client(), &instance, &interface).await,
                _ => list(gateway.client(), &instance).await,
            }
        };
        let read = timeout(DEADLINE + ALLOWANCE, reading).await.unwrap_or(Read::NoAnswer);
        // An observation before this one may be as old as it is for a process that does not get to
        // run.
        environment.observe();
        let what = format!(
            "{} of {instance} {interface} over gateway {number}, from {asked:.1?} to {:.1?}",
            ["watch", "get", "get", "list", "list"][kind],
            environment.elapsed()
        );
        if let Some(shown) = wrong(&environment, &instance, &interface, began, &read) {
            let traces = environment.traces(&instance, &shown).await.join("\n    ");
            let what =
                format!("A1: {shown} is in use and not shown by a {what}\n  traces:\n    {traces}");
            environment.violation(Violation::Wrong, what);
        }
        let unexplained = match &read {
            Read::NoAnswer => Some("no answer".to_owned()),
            Read::Refused(status) if status.get_error_details().error_info().is_none() => {
                Some(format!("{status:?}"))
            }
            _ => None,
        };
        // A paused process does not answer, and a watch has no deadline.
        if let Some(unexplained) = unexplained.filter(|_| kind > 0 && gateway.is_well_since(began))
        {
            environment.violation(Violation::Late, format!("P1: {unexplained} to a {what}"));
        }
        sleep(Duration::from_millis(random.random_range(5..50))).await;
    }
}

/// Mostly a pair that is attached.
fn pair(environment: &Environment, random: &mut StdRng) -> (String, String) {
    let any = eni(random.random_range(1..=environment.callers + 1 + EXTERNAL));
    let standing = environment.ens_truth.from(&any).filter(|_| random.random_bool(0.7));
    standing
        .unwrap_or_else(|| (format!("i-{}", random.random_range(0..environment.instances)), any))
}

async fn list(mut client: Client, instance: &str) -> Read {
    let request = ListAttachmentsRequest {
        instance_id: instance.to_owned(),
        page_size: 500,
        ..Default::default()
    };
    match client.list_attachments(within(DEADLINE, request)).await {
        Ok(listed) => match listed.into_inner() {
            ListAttachmentsResponse { incomplete: true, .. } => Read::Partial,
            listed => Read::Whole(listed.attachments, listed.observe_time),
        },
        Err(status) => Read::Refused(status),
    }
}

async fn get(mut client: Client, instance: &str, interface: &str) -> Read {
    let request = GetAttachmentRequest {
        instance_id: instance.to_owned(),
        network_interface_id: interface.to_owned(),
    };
    match client.get_attachment(within(DEADLINE, request)).await {
        Ok(got) => Read::One(got.into_inner().attachment.map(Box::new)),
        Err(status) if status.code() == Code::NotFound => Read::One(None),
        Err(status) => Read::Refused(status),
    }
}

/// A watch of a whole instance that ends by itself.
async fn watch(mut client: Client, instance: &str) -> Read {
    let request = WatchAttachmentRequest { instance_id: instance.to_owned(), ..Default::default() };
    let mut stream = match client.watch_attachment(request).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => return Read::Refused(status),
    };
    let (mut shown, mut seen, mut incomplete) = (BTreeMap::new(), None, false);
    loop {
        match stream.message().await {
            Ok(Some(message)) => match message.event {
                Some(Event::Attachment(next)) => {
                    shown.insert(next.network_interface_id.clone(), next);
                }
                Some(Event::Heartbeat(heartbeat)) => {
                    (incomplete, seen) = (heartbeat.incomplete, heartbeat.observe_time);
                }
                None => {}
            },
            Ok(None) if incomplete => return Read::Partial,
            Ok(None) => return Read::Whole(shown.into_values().collect(), seen),
            Err(status) => return Read::Refused(status),
        }
    }
}

/// An ENI that a read claims not to be there, although it has been in use for longer than the lag.
/// What the gateways attached is in the ledger, unless that lost it; what others attached need not
/// be shown unless ENS was asked since.
fn wrong(
    environment: &Environment,
    instance: &str,
    interface: &str,
    began: Instant,
    read: &Read,
) -> Option<String> {
    let standing = |asked: Option<Instant>| {
        let since = asked.and_then(|asked| asked.checked_sub(LAG));
        since.map_or_else(Vec::new, |since| environment.ens_truth.on(instance, since))
    };
    let asked = began.checked_sub(OBSERVED_FOR).unwrap_or(began);
    let (lossy, other_clock) =
        (environment.has_lost_since(asked), environment.had_other_clock_since(asked));
    let (mut expected, shown) = match read {
        Read::Whole(shown, seen) => {
            let mut expected = standing(Some(began));
            let seen = standing(seen.as_ref().and_then(at));
            expected.retain(|eni| seen.contains(eni) || !(lossy || environment.is_external(eni)));
            (expected, shown.clone())
        }
        Read::One(shown) => {
            let mut expected = standing(Some(began));
            expected.retain(|eni| eni == interface && !environment.is_external(eni));
            (expected, shown.iter().map(|shown| (**shown).clone()).collect())
        }
        Read::Partial | Read::Refused(_) | Read::NoAnswer => return None,
    };
    // Times that another clock wrote restart: for a lag, a row does not revive an attachment that
    // is known to have ended.
    expected.retain(|eni| !other_clock || !(lossy || environment.is_external(eni)));
    if !expected.is_empty() {
        environment.counters.read();
    }
    omitted(&expected, &shown).cloned()
}

/// When ENS was asked, by the clock of any server of Redis: the earliest time at which a complete
/// answer may be of.
fn at(time: &Timestamp) -> Option<Instant> {
    let age = |ahead: i64| {
        let seconds = time.seconds - ahead;
        SystemTime::try_from(Timestamp { seconds, ..*time }).ok()?.elapsed().ok()
    };
    let ages = AHEAD.into_iter().filter_map(age);
    let oldest = ages.filter(|age| *age < OBSERVED_FOR + DEADLINE + ALLOWANCE).max();
    Instant::now().checked_sub(oldest?)
}

/// Attaches an ENI of its own here and there, and takes it off again, until the run ends.
pub(crate) async fn attach(environment: Arc<Environment>, own: String, mut random: StdRng) {
    let place = |placement| {
        let placed = environment.stage.ens.world(|world, now| world.force(&own, placement, now));
        placed.expect("the ENI and the instance exist");
    };
    while !environment.is_ending() {
        sleep(Duration::from_millis(random.random_range(500..5_000))).await;
        place(Placement::on(EniStatus::InUse, format!("i-{}", random.random_range(SHARED))));
        sleep(Duration::from_millis(random.random_range(500..5_000))).await;
        place(Placement::default());
    }
}
