//! `attach` of several ENIs: one batch, and with `--watch` a watch of the whole instance.

use std::collections::BTreeMap;
use std::io::Write as _;

use tokio::time::Instant;
use tonic::Code;

use super::attach_args::Args;
use super::error::Error;
use super::follow::Follow;
use super::output::Output;
use super::refusal::Refusal;
use super::style::{GOOD, clean, paint};
use crate::grpc::proto::attach_result::Result as Of;
use crate::grpc::proto::attachment::State;
use crate::grpc::proto::{Attachment, AttachmentError, BatchAttachNetworkInterfacesRequest};

pub(super) async fn run(args: &Args) -> Result<(), Error> {
    let deadline = args.client.timeout.map(|timeout| Instant::now() + timeout);
    let mut output = Output::new(args.client.output);
    let mut client = args.client.connect().await?;
    let enis: Vec<String> = args.enis.iter().map(ToString::to_string).collect();
    let request = args.client.request(BatchAttachNetworkInterfacesRequest {
        instance_id: args.instance.to_string(),
        network_interface_ids: enis.clone(),
        request_id: args.request_id.map(|id| id.to_string()).unwrap_or_default(),
        require_all: args.require_all,
        validate_only: args.validate_only,
    });
    // The attempts continue without their caller.
    let is_unknown = |refusal: &Refusal| args.watch && refusal.may_go_on();
    let mut unanswered = None;
    let results = match client.batch_attach_network_interfaces(request).await {
        Ok(response) => response.into_inner().results,
        Err(status) => {
            let refusal = Refusal::from(status);
            if !is_unknown(&refusal) {
                return Err(Error::Refused(Box::new(refusal)));
            }
            unanswered = Some(refusal);
            Vec::new()
        }
    };
    let (mut last, mut failures) = (BTreeMap::new(), BTreeMap::new());
    let mut watches = args.watch && results.is_empty();
    for result in results {
        output.result(&result)?;
        match result.result {
            Some(Of::Attachment(attachment)) => {
                watches |= args.watch;
                last.insert(result.network_interface_id, attachment);
            }
            Some(Of::Error(error)) => {
                watches |= is_unknown(&error.clone().into());
                failures.insert(result.network_interface_id, error);
            }
            None => {}
        }
    }
    if watches {
        let instance = args.instance.to_string();
        let follow = Follow {
            client: &args.client,
            instance: instance.clone(),
            eni: String::new(),
            after: 0,
            follow: false,
            deadline,
        };
        let show = |attachment: &Attachment| {
            let eni = &attachment.network_interface_id;
            let shown = last.get(eni).map(|shown| shown.revision);
            if !enis.contains(eni) || shown == Some(attachment.revision) {
                return Ok(());
            }
            last.insert(eni.clone(), attachment.clone());
            output.next(attachment)
        };
        follow.run(client, show).await?;
        let instance = clean(&instance);
        writeln!(
            anstream::stderr(),
            "{} nothing is in flight on {instance}, so it may be started",
            paint(GOOD, "complete:")
        )?;
    }
    let is_attached =
        |eni: &String| last.get(eni).is_some_and(|last| last.state() == State::Attached);
    match unanswered {
        // Those that were not sent are in no watch.
        Some(refusal)
            if !enis.iter().all(is_attached)
                && last.values().all(|last| last.state() != State::Failed) =>
        {
            Err(Error::Refused(Box::new(refusal)))
        }
        _ => outcome(last, failures),
    }
}

/// The failure that decides the exit code, if an ENI has failed: a lasting one first.
fn outcome(
    last: BTreeMap<String, Attachment>,
    mut failures: BTreeMap<String, AttachmentError>,
) -> Result<(), Error> {
    for (eni, attachment) in last {
        match attachment.state() {
            State::Attached => _ = failures.remove(&eni),
            State::Failed => _ = failures.insert(eni, attachment.error.unwrap_or_default()),
            // An earlier attachment explains no failure.
            _ => {}
        }
    }
    let is_lasting = |error: &AttachmentError| {
        !matches!(Code::from_i32(error.code), Code::Unavailable | Code::DeadlineExceeded)
    };
    match failures.into_values().max_by_key(is_lasting) {
        Some(error) => Err(Error::Refused(Box::new(error.into()))),
        None => Ok(()),
    }
}
