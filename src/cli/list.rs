//! `list`: shows all attachments of an instance.

use std::io::Write as _;

use super::client;
use super::error::Error;
use super::output::{Format, Output};
use crate::grpc::proto::ListAttachmentsRequest;
use crate::model::InstanceId;

const EXAMPLES: &str = "\
Examples:
  eni-gateway list i-5p67acfmxazb4p
  eni-gateway list i-5p67acfmxazb4p -o json | jq -r 'select(.stuck) | .networkInterfaceId'";

/// What to list.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The instance
    instance: InstanceId,
    #[command(flatten)]
    pub(super) client: client::Options,
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let mut client = args.client.connect().await?;
    let mut attachments = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = args.client.request(ListAttachmentsRequest {
            instance_id: args.instance.to_string(),
            page_size: 0,
            page_token,
        });
        let page = client.list_attachments(request).await?.into_inner();
        attachments.extend(page.attachments);
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    if attachments.is_empty() && args.client.output == Format::Table {
        writeln!(anstream::stderr(), "no attachments on {}", args.instance)?;
    }
    Ok(Output::new(args.client.output).all(&attachments)?)
}
