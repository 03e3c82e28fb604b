//! Watchers of all instances: they resume over any gateway, and end with what the ledger has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eni_gateway::grpc::proto::WatchAttachmentsRequest;
use eni_gateway::grpc::proto::watch_attachments_response::Event;
use eni_gateway::model::random;
use tokio::time::{sleep, timeout};

use crate::callers::reason;
use crate::plan::Plan;
use crate::run::{Simulation, instance, run_drawn};
use crate::seeds;

/// A stream that is silent for so long is dead: three heartbeats.
const SILENCE: Duration = Duration::from_secs(45);

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
    // Before all is calm some leave.
    let patience = if !simulation.conditions().calm && random::fraction() < 0.3 {
        Duration::from_millis(random::between(0..30_000))
    } else {
        Duration::MAX
    };
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
    let watching = async {
        let mut stream = match timeout(SILENCE, client.watch_attachments(request)).await {
            Ok(Ok(stream)) => stream.into_inner(),
            Ok(Err(status)) => return reason(&status).0,
            Err(_) => return "silence".to_owned(),
        };
        loop {
            let message = tokio::select! {
                biased;
                () = simulation.over() => return "all is over".to_owned(),
                message = timeout(SILENCE, stream.message()) => message,
            };
            match message {
                Ok(Ok(Some(message))) => take(simulation, &who, seen, message.event),
                Ok(Ok(None)) => {
                    let what = format!("{who}: a stream that follows ended well");
                    simulation.checks.violation(simulation, "W1", what);
                    return "ended".to_owned();
                }
                Ok(Err(status)) => return reason(&status).0,
                Err(_) => return "silence".to_owned(),
            }
        }
    };
    let end = timeout(patience, watching).await.unwrap_or_else(|_| "left".to_owned());
    simulation.history.note(format_args!("{who}: {end}"));
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
