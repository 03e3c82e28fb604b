//! Many callers on few instances, with long and short deadlines, and readers of quiet instances.
//! Each caller attaches and detaches its own ENI, so they compete for slots and permits. Others
//! repeat the attach of one ENI that stays attached.

use std::sync::Arc;
use std::time::Duration;

use eni_gateway::grpc::proto::{
    AttachNetworkInterfaceRequest, GetAttachmentRequest, ListAttachmentsRequest,
    WatchAttachmentRequest,
};
use eni_gateway::model::{RequestId, random};
use eni_gateway::simulator::{Action, EniStatus, Params};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::Request;

use crate::callers::reason;
use crate::limits;
use crate::mutation::Mutation;
use crate::plan::Crowd;
use crate::progress::Call;
use crate::run::{QUIET, Simulation, eni, instance, run_drawn};
use crate::seeds;

/// Deadlines of hasty callers, in milliseconds.
const HASTY: &[u64] = &[100, 300, 600, 1_000, 1_500, 3_000, 5_000];
/// Deadlines of patient callers, in seconds, unless they may have to wait longer.
const PATIENT: std::ops::Range<f64> = 60.0..120.0;
/// Deadline of a read.
const READ_WITHIN: Duration = Duration::from_secs(15);

/// Begins all calls.
pub(crate) fn gather(simulation: &Arc<Simulation>, crowd: &Crowd) -> Vec<JoinHandle<()>> {
    let wait = limits::wait(&simulation.plan, crowd);
    let patient = (0..crowd.patient).map(|number| (number, Some(wait)));
    let hasty = (crowd.patient..crowd.patient + crowd.hasty).map(|number| (number, None));
    let callers = patient.chain(hasty).map(|(number, limit)| {
        let caller = call(simulation.clone(), number, limit, crowd.pause);
        simulation.tasks.spawn(caller)
    });
    let readers =
        (0..crowd.readers).map(|number| simulation.tasks.spawn(read(simulation.clone(), number)));
    let repeaters = (0..crowd.repeaters)
        .map(|number| simulation.tasks.spawn(repeat(simulation.clone(), number)));
    callers.chain(readers).chain(repeaters).collect()
}

/// One caller, until all is calm. With a limit it is patient, and has an answer within it.
async fn call(
    simulation: Arc<Simulation>,
    number: usize,
    limit: Option<Duration>,
    pause: Duration,
) {
    let own = eni(number);
    loop {
        sleep(pause.mul_f64(random::between(0.3..1.0))).await;
        take_off(&simulation, &own).await;
        if simulation.conditions().calm {
            return;
        }
        let deadline = match limit {
            Some(limit) => Duration::from_secs_f64(random::between(PATIENT))
                .max(limit + Duration::from_secs(5)),
            None => Duration::from_millis(HASTY[random::between(0..HASTY.len())]),
        };
        attach(&simulation, number, &own, deadline, limit).await;
    }
}

async fn attach(
    simulation: &Arc<Simulation>,
    number: usize,
    own: &str,
    deadline: Duration,
    limit: Option<Duration>,
) {
    let node = simulation.any_node();
    let on = instance(random::between(0..simulation.plan.instances));
    let request_id = RequestId(random::uuid());
    let who = format!("caller {number} to {}", node.name);
    let now = || simulation.history.elapsed();
    simulation.history.note(format_args!("{who}: attach {own} to {on} within {deadline:?}"));
    simulation.checks.called(request_id);
    let call = Call {
        who: who.clone(),
        replica: node.name.clone(),
        request: request_id,
        instance: on.parse().unwrap(),
        eni: own.parse().unwrap(),
        began: now(),
    };
    if let Some(limit) = limit {
        simulation.progress.add_caller(&call, limit);
    }
    let mut request = Request::new(AttachNetworkInterfaceRequest {
        instance_id: on.clone(),
        network_interface_id: own.to_owned(),
        request_id: request_id.0.to_string(),
        validate_only: false,
    });
    request.set_timeout(deadline);
    let answer = node.client().attach_network_interface(request).await;
    if let Err(status) = &answer
        && Mutation::withholds(&simulation.plan, &reason(status).0)
        && simulation.checks.has_reserved_only(request_id)
    {
        sleep((call.began + deadline).saturating_sub(now())).await;
    }
    let waited = simulation.progress.answered(request_id, now());
    let outcome = match answer {
        Ok(_) => "accepted".to_owned(),
        Err(status) => {
            let (reason, by_ens) = reason(&status);
            let reason = Mutation::names(&simulation.plan, reason);
            simulation.checks.reported(simulation.history.elapsed(), request_id, &reason, by_ens);
            simulation.progress.reason(simulation, &call, &reason);
            reason
        }
    };
    simulation
        .history
        .note(format_args!("{who}: attach {own} to {on}: {outcome} after {waited:?}"));
}

/// Has it detached past the gateways, once it is at rest.
async fn take_off(simulation: &Simulation, own: &str) {
    let params = Params::from_iter([("NetworkInterfaceId", own)]);
    loop {
        let status =
            simulation.cloud.world(|world, _| world.placement(own).map(|at| at.status.clone()));
        match status {
            Some(EniStatus::InUse) => {
                simulation
                    .cloud
                    .world(|world, now| world.handle(Action::DetachNetworkInterface, &params, now));
            }
            Some(EniStatus::Available) | None => return,
            Some(_) => {}
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// One reader, until all is calm: without a pause.
async fn read(simulation: Arc<Simulation>, number: usize) {
    while !simulation.conditions().calm {
        let node = simulation.any_node();
        let mut client = node.client();
        let instance_id = instance(simulation.plan.instances + random::between(0..QUIET));
        let network_interface_id = eni(random::between(0..simulation.plan.enis));
        let reading = async {
            match random::between(0..10) {
                0 => {
                    let request = GetAttachmentRequest { instance_id, network_interface_id };
                    client.get_attachment(request).await.map(drop)
                }
                1 => {
                    let request = WatchAttachmentRequest {
                        instance_id,
                        follow: false,
                        ..WatchAttachmentRequest::default()
                    };
                    let mut stream = client.watch_attachment(request).await?.into_inner();
                    while stream.message().await?.is_some() {}
                    Ok(())
                }
                _ => {
                    let request =
                        ListAttachmentsRequest { instance_id, ..ListAttachmentsRequest::default() };
                    client.list_attachments(request).await.map(drop)
                }
            }
        };
        let request = RequestId(random::uuid());
        let now = || simulation.history.elapsed();
        let who = format!("reader {number} at {}", node.name);
        simulation.progress.add_reader(request, who, &node.name, now());
        let outcome = match timeout(READ_WITHIN, reading).await {
            Ok(answer) => format!("{:?}", answer.map_err(|status| reason(&status).0)),
            Err(_) => "no answer".to_owned(),
        };
        simulation.progress.answered(request, now());
        simulation.history.note(format_args!("reader {number} at {}: {outcome}", node.name));
        // A refusal takes no time at all.
        sleep(Duration::from_millis(random::between(1..20))).await;
    }
}

/// One caller that repeats an attach, until all is calm.
async fn repeat(simulation: Arc<Simulation>, number: usize) {
    let plan = &simulation.plan;
    let (on, own) = (instance(plan.instances), eni(plan.enis - 1));
    while !simulation.conditions().calm {
        let node = simulation.any_node();
        let (request, began) = (RequestId(random::uuid()), simulation.history.elapsed());
        let who = format!("repeater {number} at {}", node.name);
        simulation.progress.add_reader(request, who.clone(), &node.name, began);
        let mut message = Request::new(AttachNetworkInterfaceRequest {
            instance_id: on.clone(),
            network_interface_id: own.clone(),
            request_id: request.0.to_string(),
            validate_only: false,
        });
        message.set_timeout(READ_WITHIN);
        match node.client().attach_network_interface(message).await {
            Ok(_) => simulation.checks.affirmed(&simulation, request, (&on, &own), began),
            Err(status) => {
                let reason = reason(&status).0;
                simulation.history.note(format_args!("{who}: {reason}"));
            }
        }
        simulation.progress.answered(request, simulation.history.elapsed());
        sleep(Duration::from_millis(random::between(1..300))).await;
    }
}

/// Callers that repeat an attach without end hold up no patient caller.
#[test]
fn repeaters_delay_no_other_caller() {
    seeds::try_each(seeds::asked_for(REPEATERS), "repeaters_delay_no_other_caller", |seed| {
        run_drawn(seed, crate::plan::Plan::draw_repeaters)
    });
}

/// No patient caller waits longer than its bound; locks, permits and calls are used as they must.
#[test]
fn every_wait_is_within_the_limit() {
    seeds::try_each(seeds::asked_for(CROWDS), "every_wait_is_within_the_limit", |seed| {
        run_drawn(seed, crate::plan::Plan::draw_crowd)
    });
}

/// Default number of seeds.
const REPEATERS: u64 = if cfg!(debug_assertions) { 2 } else { 16 };

/// The same of crowds.
const CROWDS: u64 = if cfg!(debug_assertions) { 10 } else { 150 };
