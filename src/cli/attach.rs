//! `attach`: attaches ENIs, and watches them to their end with `--watch`.

use tokio::time::Instant;

use super::attach_args::Args;
use super::error::Error;
use super::follow::Follow;
use super::output::Output;
use super::refusal::Refusal;
use super::{attach_batch, watch};
use crate::grpc::proto::attachment::State;
use crate::grpc::proto::{AttachNetworkInterfaceRequest, Attachment};
use crate::model::{InterfaceId, Reason};

pub(super) async fn run(args: Args) -> Result<(), Error> {
    match args.enis.as_slice() {
        [eni] if !args.require_all => run_one(&args, eni).await,
        _ => attach_batch::run(&args).await,
    }
}

async fn run_one(args: &Args, eni: &InterfaceId) -> Result<(), Error> {
    let deadline = args.client.timeout.map(|timeout| Instant::now() + timeout);
    let mut output = Output::new(args.client.output);
    let mut client = args.client.connect().await?;
    let request = args.client.request(AttachNetworkInterfaceRequest {
        instance_id: args.instance.to_string(),
        network_interface_id: eni.to_string(),
        request_id: args.request_id.map(|id| id.to_string()).unwrap_or_default(),
        validate_only: args.validate_only,
    });
    let mut unanswered = None;
    let attachment = match client.attach_network_interface(request).await {
        Ok(response) => {
            let response = response.into_inner();
            if args.validate_only {
                return Ok(output.validated(response.attachment.as_ref(), &response.checks)?);
            }
            response.attachment.unwrap_or_default()
        }
        Err(status) => {
            let refusal = Refusal::from(status);
            // The attempt continues without its caller, and there is nothing to show yet.
            if !(args.watch && refusal.may_go_on()) {
                return Err(Error::Refused(Box::new(refusal)));
            }
            unanswered = Some(Box::new(refusal));
            Attachment::default()
        }
    };
    if attachment.revision > 0 {
        output.next(&attachment)?;
    }
    if !args.watch || watch::is_at_its_end(&attachment) {
        return watch::outcome(Some(attachment));
    }
    let follow = Follow {
        client: &args.client,
        instance: args.instance.to_string(),
        eni: eni.to_string(),
        after: attachment.revision,
        follow: false,
        deadline,
    };
    let watched = follow.run(client, |attachment| output.next(attachment)).await;
    let watched = watched.map(|watched| watched.last);
    let Some(unanswered) = unanswered else {
        return watch::outcome(watched?);
    };
    // An attach that was not sent is in no watch, unless as an earlier one.
    match watched {
        Ok(Some(last)) if matches!(last.state(), State::Attached | State::Failed) => {
            watch::outcome(Some(last))
        }
        Err(Error::Refused(why)) if why.reason() != Some(Reason::AttachmentNotFound) => {
            Err(Error::Refused(why))
        }
        Ok(_) | Err(Error::Refused(_)) => Err(Error::Refused(unanswered)),
        Err(other) => Err(other),
    }
}
