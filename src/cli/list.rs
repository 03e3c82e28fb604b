//! `list`: shows all attachments of an instance, or of all instances.

use std::collections::BTreeMap;
use std::io::Write as _;

use super::client;
use super::coverage::Coverage;
use super::error::Error;
use super::output::{Format, Output};
use super::states;
use crate::grpc::page::ALL_INSTANCES;
use crate::grpc::proto::attachment::State;
use crate::grpc::proto::{Attachment, ListAttachmentsRequest};
use crate::model::InstanceId;

const EXAMPLES: &str = "\
Examples:
  eni-gateway list i-5p67acfmxazb4p
  eni-gateway list --all --state attaching,failed
  eni-gateway list --all --stuck
  eni-gateway list i-5p67acfmxazb4p -o json \\
    | jq -r 'select(.stuck) | .networkInterfaceId'

If ENS does not answer, it prints what the gateway knows, with its age, and exits with 75. With \
--all it prints what the ledger knows of all instances, and never asks ENS. If the record of an \
instance cannot be read, it prints the others, and exits with 75.";

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The instance
    #[arg(required_unless_present = "all")]
    instance: Option<InstanceId>,
    /// All instances that the ledger knows
    #[arg(long, conflicts_with = "instance")]
    all: bool,
    /// The states to show, such as attaching,failed
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = states::parse)]
    state: Vec<State>,
    /// Show only what is in flight for longer than tracker.stuck_after
    #[arg(long)]
    stuck: bool,
    #[command(flatten)]
    pub(super) client: client::Options,
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let mut client = args.client.connect().await?;
    let instance = args.instance.as_ref().map_or(ALL_INSTANCES, InstanceId::as_str);
    let is_fleet = instance == ALL_INSTANCES;
    let mut attachments = Vec::new();
    let mut page_token = String::new();
    let mut coverage: Option<Coverage> = None;
    loop {
        let request = args.client.request(ListAttachmentsRequest {
            instance_id: instance.to_owned(),
            page_size: if is_fleet { 100 } else { 0 },
            page_token,
            states: args.state.iter().map(|state| *state as i32).collect(),
            stuck: args.stuck,
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
        let place = if is_fleet { "any instance" } else { instance };
        writeln!(anstream::stderr(), "no {known}attachments on {place}")?;
    }
    if is_fleet {
        Output::of_fleet(args.client.output).all(&newest(attachments))?;
        return if coverage.incomplete { Err(Error::IncompleteFleet) } else { Ok(()) };
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

/// Each attachment once, by instance and ENI. One that changes between two pages is on both.
fn newest(attachments: Vec<Attachment>) -> Vec<Attachment> {
    let key = |it: &Attachment| (it.instance_id.clone(), it.network_interface_id.clone());
    // Later pages have newer states.
    let newest: BTreeMap<_, _> = attachments.into_iter().map(|it| (key(&it), it)).collect();
    newest.into_values().collect()
}
