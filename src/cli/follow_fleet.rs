//! A watch of all instances.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::client::{Client, Options};
use super::error::Error;
use super::reconnect::{self, Watch};
use super::style::{BUSY, GOOD, paint};
use crate::grpc::proto::watch_attachments_response::Event;
use crate::grpc::proto::{
    Attachment, InstanceAttachments, WatchAttachmentsRequest, WatchAttachmentsResponse,
};

/// The scope and limits of a watch of all instances.
pub(super) struct FollowFleet<'a> {
    pub(super) client: &'a Options,
    /// The scope, and the token from which the watch begins.
    pub(super) request: WatchAttachmentsRequest,
    /// The end of the watch; `None` for no limit.
    pub(super) deadline: Option<Instant>,
}

impl FollowFleet<'_> {
    /// Passes on each changed attachment until the gateway ends the stream.
    pub(super) async fn run(
        self,
        client: Client,
        show: impl FnMut(&Attachment) -> io::Result<()>,
    ) -> Result<(), Error> {
        let request = self.request;
        let mut watch = FleetWatch { request, shown: HashMap::new(), incomplete: false, show };
        reconnect::run(self.client, client, &mut watch, self.deadline).await
    }
}

struct FleetWatch<F> {
    /// With the last token.
    request: WatchAttachmentsRequest,
    /// The revisions shown of each instance, by ENI, and its partition.
    shown: HashMap<String, (i32, HashMap<String, u64>)>,
    /// What the last heartbeat says.
    incomplete: bool,
    show: F,
}

impl<F: FnMut(&Attachment) -> io::Result<()>> FleetWatch<F> {
    /// Shows the attachments that are new, and forgets those that are gone.
    fn replace(&mut self, instance: InstanceAttachments) -> io::Result<()> {
        let mut now = HashMap::new();
        let before = self.shown.remove(&instance.instance_id).unwrap_or_default().1;
        for attachment in instance.attachments {
            if before.get(&attachment.network_interface_id) != Some(&attachment.revision) {
                (self.show)(&attachment)?;
            }
            now.insert(attachment.network_interface_id, attachment.revision);
        }
        if !now.is_empty() {
            self.shown.insert(instance.instance_id, (instance.partition, now));
        }
        Ok(())
    }
}

impl<F: FnMut(&Attachment) -> io::Result<()>> Watch for FleetWatch<F> {
    type Message = WatchAttachmentsResponse;

    async fn open(
        &mut self,
        client: &mut Client,
    ) -> Result<Response<Streaming<WatchAttachmentsResponse>>, Status> {
        client.watch_attachments(Request::new(self.request.clone())).await
    }

    fn take(&mut self, message: WatchAttachmentsResponse) -> io::Result<Option<Duration>> {
        match message.event {
            Some(Event::Instance(instance)) => self.replace(instance).map(|()| None),
            Some(Event::Reset(reset)) => {
                self.shown.retain(|_, (partition, _)| *partition != reset.partition);
                Ok(None)
            }
            Some(Event::Heartbeat(heartbeat)) => {
                self.request.resume_token = heartbeat.resume_token;
                let before = std::mem::replace(&mut self.incomplete, heartbeat.incomplete);
                if before != heartbeat.incomplete {
                    note_coverage(heartbeat.incomplete);
                }
                Ok(heartbeat.interval.and_then(|interval| Duration::try_from(interval).ok()))
            }
            None => Ok(None),
        }
    }

    fn position(&self) -> String {
        "the last heartbeat".to_owned()
    }

    fn flag(&self) -> String {
        format!("--resume-token '{}'", self.request.resume_token)
    }
}

fn note_coverage(incomplete: bool) {
    let note = if incomplete {
        let label = paint(BUSY, "incomplete:");
        format!("{label} not everything in the ledger was read; instances may be missing")
    } else {
        format!("{} everything in the ledger was read", paint(GOOD, "complete:"))
    };
    // A closed stderr is no error.
    let _ = writeln!(anstream::stderr(), "{note}");
}
