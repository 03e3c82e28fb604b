//! `list`: shows all attachments of an instance.

use std::io::Write as _;

use super::client;
use super::coverage::Coverage;
use super::error::Error;
use super::output::{Format, Output};
use crate::grpc::proto::ListAttachmentsRequest;
use crate::model::InstanceId;

const EXAMPLES: &str = "\
Examples:
  eni-gateway list i-5p67acfmxazb4p
  eni-gateway list i-5p67acfmxazb4p -o json \\
    | jq -r 'select(.stuck) | .networkInterfaceId'

If ENS does not answer, it prints what the gateway knows, with its age, and exits with 75.";

/// Arguments of `list`.
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
    let mut coverage: Option<Coverage> = None;
    loop {
        let request = args.client.request(ListAttachmentsRequest {
            instance_id: args.instance.to_string(),
            page_size: 0,
            page_token,
        });
        let page = client.list_attachments(request).await?.into_inner();
        let of_page = Coverage::from(&page);
        coverage = Some(coverage.map_or(of_page, |before| before.and(of_page)));
        attachments.extend(page.attachments);
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    let coverage = coverage.unwrap_or_default();
    if attachments.is_empty() && args.client.output == Format::Table {
        let known = if coverage.incomplete { "known " } else { "" };
        writeln!(anstream::stderr(), "no {known}attachments on {}", args.instance)?;
    }
    Output::new(args.client.output).all(&attachments)?;
    if coverage.incomplete {
        return Err(Error::Incomplete(coverage));
    }
    if coverage.observe_time.is_some() && args.client.output == Format::Table {
        writeln!(anstream::stderr(), "{coverage}")?;
    }
    Ok(())
}
