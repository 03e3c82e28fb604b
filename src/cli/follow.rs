//! A watch of one instance or ENI.

use std::io::{self, Write as _};
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::client::{Client, Options};
use super::coverage::Coverage;
use super::error::Error;
use super::reconnect::{self, Watch};
use super::resume::Cursor;
use super::style::{BUSY, GOOD, paint};
use crate::grpc::proto::watch_attachment_response::Event;
use crate::grpc::proto::{Attachment, WatchAttachmentRequest, WatchAttachmentResponse};

/// What a watch showed.
pub(super) struct Followed {
    /// The last attachment.
    pub(super) last: Option<Attachment>,
    /// What the last heartbeat says.
    pub(super) coverage: Coverage,
}

/// The scope and limits of a watch.
pub(super) struct Follow<'a> {
    pub(super) client: &'a Options,
    pub(super) instance: String,
    /// The ENI; empty for the whole instance.
    pub(super) eni: String,
    pub(super) after: u64,
    /// Whether to continue after terminal states.
    pub(super) follow: bool,
    /// The end of the watch; `None` for no limit.
    pub(super) deadline: Option<Instant>,
}

impl Follow<'_> {
    /// Passes on each change until the gateway ends the stream. Only an established watch is
    /// resumed; a first call that fails is an error.
    pub(super) async fn run(
        self,
        client: Client,
        show: impl FnMut(&Attachment) -> io::Result<()>,
    ) -> Result<Followed, Error> {
        let cursor = Cursor::new(self.after);
        let coverage = Coverage::default();
        let mut watch = InstanceWatch { scope: &self, cursor, coverage, last: None, show };
        reconnect::run(self.client, client, &mut watch, self.deadline).await?;
        Ok(Followed { last: watch.last, coverage: watch.coverage })
    }
}

struct InstanceWatch<'a, F> {
    scope: &'a Follow<'a>,
    cursor: Cursor,
    coverage: Coverage,
    last: Option<Attachment>,
    show: F,
}

impl<F: FnMut(&Attachment) -> io::Result<()>> Watch for InstanceWatch<'_, F> {
    type Message = WatchAttachmentResponse;

    async fn open(
        &mut self,
        client: &mut Client,
    ) -> Result<Response<Streaming<WatchAttachmentResponse>>, Status> {
        self.cursor.begin();
        let request = Request::new(WatchAttachmentRequest {
            instance_id: self.scope.instance.clone(),
            network_interface_id: self.scope.eni.clone(),
            after_revision: self.cursor.after(),
            follow: self.scope.follow,
        });
        client.watch_attachment(request).await
    }

    fn take(&mut self, message: WatchAttachmentResponse) -> io::Result<Option<Duration>> {
        match message.event {
            Some(Event::Attachment(attachment)) => {
                if self.cursor.attachment(&attachment) {
                    (self.show)(&attachment)?;
                    self.last = Some(attachment);
                }
                Ok(None)
            }
            Some(Event::Heartbeat(heartbeat)) => {
                self.cursor.heartbeat(heartbeat.revision);
                let before = std::mem::replace(&mut self.coverage, Coverage::from(&heartbeat));
                if before.incomplete != heartbeat.incomplete {
                    note_coverage(self.coverage);
                }
                Ok(heartbeat.interval.and_then(|interval| Duration::try_from(interval).ok()))
            }
            None => Ok(None),
        }
    }

    fn position(&self) -> String {
        format!("revision {}", self.cursor.after())
    }

    fn flag(&self) -> String {
        format!("--after-revision {}", self.cursor.after())
    }
}

fn note_coverage(coverage: Coverage) {
    let note = if coverage.incomplete {
        format!(
            "{} {coverage}; external attachments since then may be missing",
            paint(BUSY, "incomplete:")
        )
    } else {
        format!("{} {coverage}", paint(GOOD, "complete:"))
    };
    // A closed stderr is no error.
    let _ = writeln!(anstream::stderr(), "{note}");
}
