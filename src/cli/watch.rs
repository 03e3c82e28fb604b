//! `watch`: shows each change of an attachment, of an instance or of all instances, as it happens.

use std::io::{self, Write as _};

use tokio::time::Instant;

use super::client;
use super::error::Error;
use super::follow::Follow;
use super::follow_fleet::FollowFleet;
use super::output::{Format, Output};
use super::states;
use crate::grpc::proto::attachment::State;
use crate::grpc::proto::{Attachment, WatchAttachmentsRequest};
use crate::model::{InstanceId, InterfaceId};

const EXAMPLES: &str = "\
Examples:
  eni-gateway watch i-5p67acfmxazb4p eni-58z57orgmt6d1
  eni-gateway watch i-5p67acfmxazb4p --follow
  eni-gateway watch --all --state attaching,failed --follow
  eni-gateway watch i-5p67acfmxazb4p --follow -o json \\
    | jq -r '.networkInterfaceId, .state'

It ends when everything in scope is terminal: with 0, or with 1 if the one watched ENI has \
failed. It resumes after lost connections and stopped replicas, until --timeout if set. It shows \
nothing twice, unless the ledger lost writes and issues its revisions again. stderr reports \
whether attachments may be missing because ENS did not answer. With --all it shows what the ledger \
knows of all instances, and never asks ENS.";

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The instance
    #[arg(required_unless_present = "all")]
    instance: Option<InstanceId>,
    /// One elastic network interface; without it, the whole instance
    eni: Option<InterfaceId>,
    /// Wait for a missing attachment, and continue after terminal states
    #[arg(long)]
    follow: bool,
    /// Revision after which to show changes
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    after_revision: u64,
    /// All instances that the ledger knows
    #[arg(long, conflicts_with_all = ["instance", "after_revision"])]
    all: bool,
    /// With --all: the beginning of the instances' ids
    #[arg(long, value_name = "TEXT", default_value = "", conflicts_with = "instance")]
    prefix: String,
    /// With --all: the states to show, such as attaching,failed
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = states::parse, conflicts_with = "instance")]
    state: Vec<State>,
    /// With --all: the token after which to show changes
    #[arg(long, value_name = "TOKEN", default_value = "", conflicts_with = "instance")]
    resume_token: String,
    #[command(flatten)]
    pub(super) client: client::Options,
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let Some(instance) = args.instance else {
        return run_fleet(args).await;
    };
    let mut output = Output::new(args.client.output);
    let one = args.eni.is_some();
    let format = args.client.output;
    let place = match &args.eni {
        Some(eni) => format!("{eni} on {instance}"),
        None => instance.to_string(),
    };
    let follow = Follow {
        client: &args.client,
        instance: instance.to_string(),
        eni: args.eni.map(String::from).unwrap_or_default(),
        after: args.after_revision,
        follow: args.follow,
        deadline: args.client.timeout.map(|timeout| Instant::now() + timeout),
    };
    let watched =
        follow.run(args.client.connect().await?, |attachment| output.next(attachment)).await?;
    if watched.last.is_none() {
        note_nothing(format, args.after_revision > 0, &place)?;
        if !one && format == Format::Table {
            writeln!(anstream::stderr(), "{}", watched.coverage)?;
        }
    }
    if one { outcome(watched.last) } else { Ok(()) }
}

async fn run_fleet(args: Args) -> Result<(), Error> {
    let mut output = Output::of_fleet(args.client.output);
    let (format, is_resumed) = (args.client.output, !args.resume_token.is_empty());
    let mut is_empty = true;
    let follow = FollowFleet {
        client: &args.client,
        request: WatchAttachmentsRequest {
            resume_token: args.resume_token,
            instance_prefix: args.prefix,
            states: args.state.into_iter().map(Into::into).collect(),
            follow: args.follow,
        },
        deadline: args.client.timeout.map(|timeout| Instant::now() + timeout),
    };
    let show = |attachment: &Attachment| {
        is_empty = false;
        output.next(attachment)
    };
    follow.run(args.client.connect().await?, show).await?;
    if is_empty {
        note_nothing(format, is_resumed, "any instance")?;
    }
    Ok(())
}

/// Says to people that a watch ended well, and had nothing to show. Scripts see no output.
fn note_nothing(format: Format, is_resumed: bool, place: &str) -> io::Result<()> {
    let what = if is_resumed { "no further changes" } else { "no attachments" };
    match format {
        Format::Table => writeln!(anstream::stderr(), "{what} on {place}"),
        Format::Json => Ok(()),
    }
}

/// An error if the last attachment failed.
pub(super) fn outcome(last: Option<Attachment>) -> Result<(), Error> {
    match last {
        Some(Attachment { state, error, .. }) if state == State::Failed as i32 => {
            Err(Error::Refused(Box::new(error.unwrap_or_default().into())))
        }
        _ => Ok(()),
    }
}

/// Whether nothing is in flight.
pub(super) fn is_at_its_end(attachment: &Attachment) -> bool {
    matches!(attachment.state(), State::Attached | State::Failed | State::Detached)
}
