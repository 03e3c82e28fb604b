//! `get`: shows one attachment with its history.

use std::io::Write as _;

use super::client;
use super::coverage::age_and_time;
use super::error::Error;
use super::output::{Format, Output};
use crate::grpc::proto::GetAttachmentRequest;
use crate::model::{InstanceId, InterfaceId};

const EXAMPLES: &str = "\
Examples:
  eni-gateway get i-5p67acfmxazb4p eni-58z57orgmt6d1
  eni-gateway get i-5p67acfmxazb4p eni-58z57orgmt6d1 -o json | jq -r .state

It exits with 0 in any state; `watch` reports a failed attach by its exit code. For an unknown \
ENI the gateway asks ENS; if ENS does not answer, the state is unknown (75).";

/// Arguments of `get`.
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
    let attachment = response.attachment.unwrap_or_default();
    Output::new(args.client.output).whole(&attachment)?;
    let age = attachment.observe_time.and_then(age_and_time);
    if let (Format::Table, Some(age)) = (args.client.output, age) {
        writeln!(anstream::stderr(), "ENS was last asked for it {age}")?;
    }
    Ok(())
}
