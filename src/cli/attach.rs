//! `attach`: asks for one attachment, and watches it to its end if told so.

use tokio::time::Instant;
use uuid::Uuid;

use super::client;
use super::error::Error;
use super::follow::Follow;
use super::output::Output;
use super::refusal::Refusal;
use super::watch;
use crate::grpc::proto::{AttachNetworkInterfaceRequest, Attachment};
use crate::model::{InstanceId, InterfaceId};

const EXAMPLES: &str = "\
Examples:
  eni-gateway attach i-5p67acfmxazb4p eni-58z57orgmt6d1
  eni-gateway attach i-5p67acfmxazb4p eni-58z57orgmt6d1 --watch --timeout 5m
  eni-gateway attach i-5p67acfmxazb4p eni-58z57orgmt6d1 --validate-only -o json

Without --watch it returns when ENS has accepted or refused. An attach may be repeated at any time: \
it joins the one under way, and an ENI that is attached already is a success. The instance must be \
stopped.";

/// What to attach.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The instance, which comes first
    instance: InstanceId,
    /// The elastic network interface
    eni: InterfaceId,
    /// Replay the answer that this id got before, if it did; good for 24 hours
    #[arg(long, value_name = "UUID")]
    request_id: Option<Uuid>,
    /// Only say whether it would be tried, and what was checked
    #[arg(long, conflicts_with = "watch")]
    validate_only: bool,
    /// Then watch it until it is attached or has failed
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    pub(super) client: client::Options,
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let deadline = args.client.timeout.map(|timeout| Instant::now() + timeout);
    let mut output = Output::new(args.client.output);
    let mut client = args.client.connect().await?;
    let request = args.client.request(AttachNetworkInterfaceRequest {
        instance_id: args.instance.to_string(),
        network_interface_id: args.eni.to_string(),
        request_id: args.request_id.map(|id| id.to_string()).unwrap_or_default(),
        validate_only: args.validate_only,
    });
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
            // The attempt goes on without its caller; there is nothing to show of it yet.
            if !(args.watch && refusal.may_go_on()) {
                return Err(Error::Refused(Box::new(refusal)));
            }
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
        eni: args.eni.to_string(),
        after: attachment.revision,
        follow: false,
        deadline,
    };
    watch::outcome(follow.run(client, |attachment| output.next(attachment)).await?)
}
