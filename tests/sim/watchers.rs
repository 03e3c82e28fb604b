//! Watchers: follow an instance or one ENI, resume over any gateway, and keep the last state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eni_gateway::grpc::proto::watch_attachment_response::Event;
use eni_gateway::grpc::proto::{WatchAttachmentRequest, WatchAttachmentResponse};
use eni_gateway::ledger::invariants::world;
use eni_gateway::model::{State, random};
use tokio::time::sleep;

use crate::run::{Simulation, eni, instance};
use crate::streams;

/// What one watcher saw last.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) instance: String,
    /// Empty: the whole instance.
    pub(crate) eni: String,
    pub(crate) attachments: BTreeMap<String, Last>,
    revision: u64,
    /// Nothing came over the present stream yet.
    opened: bool,
}

/// An attachment as it was seen last.
#[derive(Debug, Clone)]
pub(crate) struct Last {
    uid: String,
    state: State,
    pub(crate) revision: u64,
}

/// One watcher: until all is over (then what it saw last).
pub(crate) async fn watch(simulation: Arc<Simulation>, number: usize) -> Seen {
    let mut seen = Seen {
        name: format!("watcher {number}"),
        instance: instance(random::between(0..simulation.plan.instances)),
        eni: if random::fraction() < 0.5 {
            eni(random::between(0..simulation.plan.enis))
        } else {
            String::new()
        },
        ..Seen::default()
    };
    while !simulation.is_over() {
        stream(&simulation, &mut seen).await;
        sleep(Duration::from_millis(random::between(100..3_000))).await;
    }
    seen
}

async fn stream(simulation: &Arc<Simulation>, seen: &mut Seen) {
    let node = simulation.any_node();
    // Before all is calm some do not follow.
    let follow = simulation.conditions().calm || random::fraction() < 0.8;
    let request = WatchAttachmentRequest {
        instance_id: seen.instance.clone(),
        network_interface_id: seen.eni.clone(),
        after_revision: seen.revision,
        follow,
    };
    let who = format!("{} at {}", seen.name, node.name);
    simulation.history.note(format_args!(
        "{who}: watches {} {} after {}",
        seen.instance, seen.eni, seen.revision
    ));
    seen.opened = true;
    let mut client = node.client();
    let opened = client.watch_attachment(request);
    let take = |message: WatchAttachmentResponse| take(simulation, &who, seen, message.event);
    streams::run(simulation, &who, follow, opened, take).await;
}

fn take(simulation: &Simulation, who: &str, seen: &mut Seen, event: Option<Event>) {
    // What the ledger lost, or no longer keeps, it cannot show again: then the order may begin
    // again, with another stream.
    let restarted =
        std::mem::take(&mut seen.opened) && simulation.checks.began_again_lately(simulation);
    let violation = |invariant, what: String| {
        simulation.checks.violation(simulation, invariant, format!("{who}: {what}"))
    };
    match event {
        Some(Event::Attachment(attachment)) => {
            let (eni, state) = (
                attachment.network_interface_id.clone(),
                attachment.state().known().expect("a state"),
            );
            let revision = attachment.revision;
            simulation.history.note(format_args!(
                "{who}: {eni} {} rev {revision}",
                attachment.state().as_str_name()
            ));
            if !restarted && !world::rises(seen.revision, revision) {
                violation("W1", format!("revision {revision} after {}", seen.revision));
            }
            seen.revision = revision;
            let last = Last { uid: attachment.uid, state, revision };
            let before = seen.attachments.insert(eni, last.clone());
            if let Some(before) = before.filter(|before| before.uid == last.uid)
                && !simulation.checks.lost_lately(simulation)
                && !world::may_be_shown(before.state, state)
            {
                violation("A2", format!("{:?} became {state:?} within one attempt", before.state));
            }
        }
        Some(Event::Heartbeat(heartbeat)) => {
            if !restarted && heartbeat.revision < seen.revision {
                violation(
                    "W1",
                    format!("a heartbeat of {} after {}", heartbeat.revision, seen.revision),
                );
            }
            seen.revision = heartbeat.revision;
        }
        None => {}
    }
}
