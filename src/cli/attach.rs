//! `attach`: attaches one ENI, and watches it to its end with `--watch`.

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

Without --watch it returns when ENS has accepted or refused. A repeat is safe at any time: it \
joins the attach in flight, and an ENI that is attached already is a success. The instance must \
be stopped.";

/// Arguments of `attach`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The instance, which comes first
    instance: InstanceId,
    /// The elastic network interface
    eni: InterfaceId,
    /// Id of the intent, a UUID: a repeat within 24 hours gets the same outcome
    #[arg(long, value_name = "UUID")]
    request_id: Option<Uuid>,
    /// Only check the request, and print the checks
    #[arg(long, conflicts_with = "watch")]
    validate_only: bool,
    /// Then watch it until it is attached or failed
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
            // The attempt continues without its caller, and there is nothing to show yet.
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
