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
  eni-gateway watch i-5p67acfmxazb4p --follow -o json \\
    | jq -r '.networkInterfaceId, .state'

It ends when everything in scope is terminal: with 0, or with 1 if the one watched ENI has \
failed. It resumes after lost connections and stopped replicas, until --timeout if set. It shows \
nothing twice, unless the ledger lost writes and issues its revisions again. stderr reports \
whether attachments may be missing because ENS did not answer.";

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The instance
    instance: InstanceId,
    /// One elastic network interface; without it, the whole instance
    eni: Option<InterfaceId>,
    /// Wait for a missing attachment, and continue after terminal states
    #[arg(long)]
    follow: bool,
    /// Revision after which to show changes
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
    let last =
        follow.run(args.client.connect().await?, |attachment| output.next(attachment)).await?;
    if one { outcome(last) } else { Ok(()) }
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
