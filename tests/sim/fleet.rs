//! Watchers of all instances: they resume over any gateway, and end with what the ledger has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eni_gateway::grpc::proto::watch_attachments_response::Event;
use eni_gateway::grpc::proto::{WatchAttachmentsRequest, WatchAttachmentsResponse};
use eni_gateway::model::random;
use tokio::time::sleep;

use crate::plan::Plan;
use crate::run::{Simulation, instance, run_drawn};
use crate::{seeds, streams};

/// Default number of seeds.
const SEEDS: u64 = if cfg!(debug_assertions) { 10 } else { 200 };

/// What one watcher holds.
#[derive(Debug, Default)]
pub(crate) struct FleetSeen {
    name: String,
    resume_token: String,
    /// By instance: its partition, and the revision of each ENI.
    instances: BTreeMap<String, (i32, BTreeMap<String, u64>)>,
}

/// One watcher: until all is over (then what it holds).
pub(crate) async fn watch(simulation: Arc<Simulation>, number: usize) -> FleetSeen {
    let mut seen = FleetSeen { name: format!("fleet watcher {number}"), ..FleetSeen::default() };
    while !simulation.is_over() {
        stream(&simulation, &mut seen).await;
        sleep(Duration::from_millis(random::between(100..3_000))).await;
    }
    seen
}

async fn stream(simulation: &Arc<Simulation>, seen: &mut FleetSeen) {
    let node = simulation.any_node();
    let who = format!("{} at {}", seen.name, node.name);
    let resume_token = seen.resume_token.clone();
    if resume_token.is_empty() {
        seen.instances.clear();
    }
    let request = WatchAttachmentsRequest {
        resume_token,
        follow: true,
        ..WatchAttachmentsRequest::default()
    };
    let mut client = node.client();
    let opened = client.watch_attachments(request);
    let take = |message: WatchAttachmentsResponse| take(simulation, &who, seen, message.event);
    streams::run(simulation, &who, true, opened, take).await;
}

fn take(simulation: &Simulation, who: &str, seen: &mut FleetSeen, event: Option<Event>) {
    match event {
        Some(Event::Instance(instance)) => {
            let name = instance.instance_id;
            let each = instance.attachments.into_iter();
            let revisions: BTreeMap<_, _> =
                each.map(|it| (it.network_interface_id, it.revision)).collect();
            simulation.history.note(format_args!("{who}: {name} {revisions:?}"));
            seen.instances.insert(name, (instance.partition, revisions));
        }
        Some(Event::Reset(reset)) => {
            simulation.history.note(format_args!("{who}: reset of {}", reset.partition));
            seen.instances.retain(|_, (partition, _)| *partition != reset.partition);
        }
        Some(Event::Heartbeat(heartbeat)) => seen.resume_token = heartbeat.resume_token,
        None => {}
    }
}

/// W1: the watcher holds the last state of everything, and nothing else.
pub(crate) fn judge(simulation: &Simulation, seen: &FleetSeen) {
    for instance in (0..simulation.plan.instances).map(instance) {
        let record = simulation.primary().read(&instance.parse().unwrap(), None).record;
        let each = record.attempts.iter();
        let there: BTreeMap<_, _> =
            each.map(|(eni, attempt)| (eni.to_string(), attempt.revision.0)).collect();
        let held = seen.instances.get(&instance).map(|(_, held)| held.clone()).unwrap_or_default();
        // What expired was shown, and nothing is said of it.
        if !there.is_empty() && held != there {
            let what =
                format!("{} holds {held:?} of {instance}, and there is {there:?}", seen.name);
            return simulation.checks.violation(simulation, "W1", what);
        }
    }
}

/// A plan of this seed with watchers of all instances.
fn draw(seed: u64) -> Plan {
    let plan = if seed.is_multiple_of(2) { Plan::draw(seed) } else { Plan::draw_clock(seed) };
    Plan { fleet_watchers: random::between(1..=3), watchers: 0, ..plan }
}

/// No seed leaves a watcher of all instances with another state than the last.
#[test]
fn fleet_watchers_end_with_the_last_state() {
    seeds::try_each(seeds::asked_for(SEEDS), "fleet_watchers_end_with_the_last_state", |seed| {
        run_drawn(seed, draw)
    });
}
