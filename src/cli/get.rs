//! `get`: shows one attachment with its history.

use super::client;
use super::error::Error;
use super::output::Output;
use crate::grpc::proto::GetAttachmentRequest;
use crate::model::{InstanceId, InterfaceId};

const EXAMPLES: &str = "\
Examples:
  eni-gateway get i-5p67acfmxazb4p eni-58z57orgmt6d1
  eni-gateway get i-5p67acfmxazb4p eni-58z57orgmt6d1 -o json | jq -r .state

It ends with 0 whatever the state is; `watch` says by its exit code whether an attach failed.";

/// What to show.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The instance
    instance: InstanceId,
    /// The elastic network interface
    eni: InterfaceId,
    #[command(flatten)]
    pub(super) client: client::Options,
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let request = args.client.request(GetAttachmentRequest {
        instance_id: args.instance.to_string(),
        network_interface_id: args.eni.to_string(),
    });
    let response = args.client.connect().await?.get_attachment(request).await?.into_inner();
    Ok(Output::new(args.client.output).whole(&response.attachment.unwrap_or_default())?)
}
