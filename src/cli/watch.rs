//! `watch`: shows each change of an attachment, or of all of an instance, as it happens.

use tokio::time::Instant;

use super::client;
use super::error::Error;
use super::follow::Follow;
use super::output::Output;
use crate::grpc::proto::Attachment;
use crate::grpc::proto::attachment::State;
use crate::model::{InstanceId, InterfaceId};

const EXAMPLES: &str = "\
Examples:
  eni-gateway watch i-5p67acfmxazb4p eni-58z57orgmt6d1
  eni-gateway watch i-5p67acfmxazb4p --follow
  eni-gateway watch i-5p67acfmxazb4p --follow -o json | jq -r '.networkInterfaceId, .state'

It ends when everything it watches is at its end: with 0, or with 1 if the one ENI that it watches \
has failed. Once begun, it outlives lost connections and replicas that go away, until --timeout if \
there is one; nothing is shown twice, unless the ledger lost writes and tells everything anew. \
Whether attachments of the instance may be missing, because ENS could not be asked for it, is said \
on stderr.";

/// What to watch.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The instance
    instance: InstanceId,
    /// One elastic network interface; all of the instance if left out
    eni: Option<InterfaceId>,
    /// Wait for what is not there yet, and go on after the end
    #[arg(long)]
    follow: bool,
    /// Show only what is newer than this revision
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    after_revision: u64,
    #[command(flatten)]
    pub(super) client: client::Options,
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let mut output = Output::new(args.client.output);
    let one = args.eni.is_some();
    let follow = Follow {
        client: &args.client,
        instance: args.instance.to_string(),
        eni: args.eni.map(String::from).unwrap_or_default(),
        after: args.after_revision,
        follow: args.follow,
        deadline: args.client.timeout.map(|timeout| Instant::now() + timeout),
    };
    let last = follow
        .run(args.client.connect().await?, |attachment| output.next(attachment))
        .await?;
    if one { outcome(last) } else { Ok(()) }
}

/// A failed attachment is a failed command.
pub(super) fn outcome(last: Option<Attachment>) -> Result<(), Error> {
    match last {
        Some(Attachment { state, error, .. }) if state == State::Failed as i32 => {
            Err(Error::Refused(Box::new(error.unwrap_or_default().into())))
        }
        _ => Ok(()),
    }
}

/// Whether nothing is under way any more.
pub(super) fn is_at_its_end(attachment: &Attachment) -> bool {
    matches!(attachment.state(), State::Attached | State::Failed | State::Detached)
}
