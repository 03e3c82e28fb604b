//! Callers: attach over any gateway, with long and short deadlines. Some disconnect, some repeat
//! calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eni_gateway::grpc::proto::attach_result::Result as Of;
use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::grpc::proto::{
    AttachNetworkInterfaceRequest, AttachmentError, BatchAttachNetworkInterfacesRequest,
    GetAttachmentRequest, ListAttachmentsRequest,
};
use eni_gateway::model::{RequestId, random};
use tokio::time::{sleep, timeout};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::node::Client;
use crate::run::{Simulation, eni, instance};

/// The reasons that a caller receives when nothing was sent. A refusal for the limit is one if ENS
/// had no part in it.
pub(crate) const NOTHING_SENT: &[&str] = &[
    "LOCK_WAIT",
    "COORDINATION_UNAVAILABLE",
    "COORDINATION_RECOVERING",
    "ENS_THROTTLED",
    "ENI_LIMIT_EXCEEDED",
    "DRAINING",
    "OVERLOADED",
];

/// Deadlines, in milliseconds.
const DEADLINES: &[u64] = &[100, 400, 1_500, 5_000, 15_000, 30_000, 90_000];

/// An error, as far as a caller can read it.
pub(crate) fn reason(status: &Status) -> (String, bool) {
    let details = status.get_error_details();
    let info = details.error_info();
    let reason = info.map_or_else(|| format!("{:?}", status.code()), |info| info.reason.clone());
    let by_ens = info.is_some_and(|info| info.metadata.contains_key("ensCode"));
    (reason, by_ens)
}

/// One caller, until all is calm.
pub(crate) async fn call(simulation: Arc<Simulation>, number: usize) {
    let mut clients: BTreeMap<String, Client> = BTreeMap::new();
    let mut last = None;
    loop {
        sleep(Duration::from_millis(random::between(0..8_000))).await;
        if simulation.conditions().calm {
            return;
        }
        let node = simulation.any_node();
        let client = clients.entry(node.name.clone()).or_insert_with(|| node.client());
        let who = format!("caller {number} to {}", node.name);
        match random::between(0..20) {
            0 => read(&simulation, client, &who).await,
            _ if is_batch(&simulation) => attach_batch(&simulation, client, &who).await,
            _ => attach(&simulation, client, &who, &mut last).await,
        }
    }
}

/// Draws nothing in a run without batches, so that its history stays the same.
fn is_batch(simulation: &Simulation) -> bool {
    simulation.plan.batches > 0.0 && random::fraction() < simulation.plan.batches
}

async fn read(simulation: &Simulation, client: &mut Client, who: &str) {
    let instance_id = instance(random::between(0..simulation.plan.instances));
    let answer = if random::fraction() < 0.5 {
        let request = GetAttachmentRequest {
            instance_id,
            network_interface_id: eni(random::between(0..simulation.plan.enis)),
        };
        client.get_attachment(request).await.map(drop)
    } else {
        let request = ListAttachmentsRequest { instance_id, ..ListAttachmentsRequest::default() };
        client.list_attachments(request).await.map(drop)
    };
    let outcome = answer.map_err(|status| reason(&status).0);
    simulation.history.note(format_args!("{who}: read: {outcome:?}"));
}

async fn attach(
    simulation: &Simulation,
    client: &mut Client,
    who: &str,
    last: &mut Option<AttachNetworkInterfaceRequest>,
) {
    let fresh = AttachNetworkInterfaceRequest {
        instance_id: instance(random::between(0..simulation.plan.instances)),
        network_interface_id: eni(random::between(0..simulation.plan.enis)),
        request_id: random::uuid().to_string(),
        validate_only: random::fraction() < 0.03,
    };
    let message = match last.take() {
        Some(before) if random::fraction() < 0.15 => before,
        _ => fresh,
    };
    *last = Some(message.clone());
    let request_id = RequestId(message.request_id.parse().unwrap());
    let (eni, instance) = (message.network_interface_id.clone(), message.instance_id.clone());
    simulation.checks.called(request_id);
    let deadline = Duration::from_millis(DEADLINES[random::between(0..DEADLINES.len())]);
    simulation.history.note(format_args!("{who}: attach {eni} to {instance} within {deadline:?}"));
    let (began, only_asks) = (simulation.history.elapsed(), message.validate_only);
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    let call = client.attach_network_interface(request);
    let answer = if random::fraction() < simulation.plan.hang_ups {
        timeout(deadline.mul_f64(random::fraction()), call).await.ok()
    } else {
        Some(call.await)
    };
    let outcome = match answer {
        None => "hung up".to_owned(),
        Some(Ok(response)) => match response.into_inner().attachment {
            Some(attachment) => {
                if attachment.state() == State::Attached && !only_asks {
                    let pair = (instance.as_str(), eni.as_str());
                    simulation.checks.affirmed(simulation, request_id, pair, began);
                }
                format!("{} {}", attachment.uid, attachment.state().as_str_name())
            }
            None => "valid".to_owned(),
        },
        Some(Err(status)) => {
            let (reason, by_ens) = reason(&status);
            simulation.checks.reported(simulation.history.elapsed(), request_id, &reason, by_ens);
            reason
        }
    };
    simulation.history.note(format_args!("{who}: attach {eni} to {instance}: {outcome}"));
}

/// Attaches several ENIs at once. Each answer is checked as that of a single attach.
async fn attach_batch(simulation: &Simulation, client: &mut Client, who: &str) {
    let enis = simulation.plan.enis;
    let (first, number) = (random::between(0..enis), random::between(1..=enis));
    let names: Vec<String> = (0..number).map(|next| eni((first + next) % enis)).collect();
    let instance = instance(random::between(0..simulation.plan.instances));
    let request_id = RequestId(random::uuid());
    let id_of = |eni: &str| request_id.of_eni(&eni.parse().unwrap());
    for eni in &names {
        simulation.checks.called(id_of(eni));
    }
    let deadline = Duration::from_millis(DEADLINES[random::between(0..DEADLINES.len())]);
    let asked = format!("{who}: batch of {names:?} to {instance}");
    simulation.history.note(format_args!("{asked} within {deadline:?}"));
    let began = simulation.history.elapsed();
    let mut request = Request::new(BatchAttachNetworkInterfacesRequest {
        instance_id: instance.clone(),
        network_interface_ids: names.clone(),
        request_id: request_id.to_string(),
        require_all: random::fraction() < 0.2,
        validate_only: false,
    });
    request.set_timeout(deadline);
    let call = client.batch_attach_network_interfaces(request);
    let answer = if random::fraction() < simulation.plan.hang_ups {
        timeout(deadline.mul_f64(random::fraction()), call).await.ok()
    } else {
        Some(call.await)
    };
    let reported = |eni: &str, reason: &str, by_ens| {
        simulation.checks.reported(simulation.history.elapsed(), id_of(eni), reason, by_ens);
    };
    let outcome = match answer {
        None => "hung up".to_owned(),
        Some(Err(status)) => {
            let (reason, by_ens) = reason(&status);
            names.iter().for_each(|eni| reported(eni, &reason, by_ens));
            reason
        }
        Some(Ok(response)) => {
            let results = response.into_inner().results;
            assert_eq!(results.len(), names.len(), "{asked}: {results:?}");
            let outcome = results.into_iter().zip(&names).map(|(result, eni)| {
                assert_eq!(result.network_interface_id, *eni, "{asked}");
                match result.result {
                    Some(Of::Attachment(attachment)) => {
                        let state = attachment.state();
                        if state == State::Attached {
                            let pair = (instance.as_str(), eni.as_str());
                            simulation.checks.affirmed(simulation, id_of(eni), pair, began);
                        }
                        state.as_str_name().to_owned()
                    }
                    Some(Of::Error(AttachmentError { reason, ens_code, .. })) => {
                        reported(eni, &reason, !ens_code.is_empty());
                        reason
                    }
                    None => panic!("{asked}: no result for {eni}"),
                }
            });
            outcome.collect::<Vec<_>>().join(" ")
        }
    };
    simulation.history.note(format_args!("{asked}: {outcome}"));
}
