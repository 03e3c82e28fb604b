//! A watch that resumes after ended streams, stopped replicas and silent connections.

use std::io::{self, Write as _};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::Request;

use super::client::{Client, Options};
use super::coverage::Coverage;
use super::error::Error;
use super::refusal::Refusal;
use super::resume::Cursor;
use super::style::{BUSY, GOOD, paint};
use crate::grpc::proto::watch_attachment_response::Event;
use crate::grpc::proto::{Attachment, WatchAttachmentRequest};
use crate::model::random;

/// Maximum silence of a stream before its first heartbeat, which has the interval.
const FIRST_SILENCE: Duration = Duration::from_secs(45);
/// Number of missed heartbeats after which a stream is dead.
const MISSED_HEARTBEATS: u32 = 3;
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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

/// The end of a stream.
enum End {
    /// Everything in scope has ended.
    Complete,
    /// The stream broke, and can be resumed.
    Lost(Refusal),
}

impl Follow<'_> {
    /// Passes on each change until the gateway ends the stream, and returns the last one. Only an
    /// established watch is resumed; a first call that fails is an error.
    pub(super) async fn run(
        self,
        client: Client,
        mut show: impl FnMut(&Attachment) -> io::Result<()>,
    ) -> Result<Option<Attachment>, Error> {
        let mut cursor = Cursor::new(self.after);
        let mut last = None;
        let mut take = |attachment| {
            show(&attachment)?;
            last = Some(attachment);
            Ok(())
        };
        let watched = self.resumed(client, &mut cursor, &mut take);
        match self.deadline {
            Some(deadline) => match timeout_at(deadline, watched).await {
                Ok(ended) => ended?,
                Err(_) => {
                    return Err(Error::Unfinished { after: cursor.after() });
                }
            },
            None => watched.await?,
        }
        Ok(last)
    }

    async fn resumed(
        &self,
        client: Client,
        cursor: &mut Cursor,
        show: &mut impl FnMut(Attachment) -> io::Result<()>,
    ) -> Result<(), Error> {
        let mut client = Some(client);
        let mut established = false;
        let mut pause = SHORTEST_PAUSE;
        let mut incomplete = false;
        loop {
            let ended = match client.take() {
                Some(connected) => {
                    self.stream(
                        connected,
                        cursor,
                        &mut established,
                        &mut pause,
                        &mut incomplete,
                        show,
                    )
                    .await
                }
                None => match self.client.connect().await {
                    Ok(connected) => {
                        client = Some(connected);
                        continue;
                    }
                    Err(Error::Unreachable { .. }) => Ok(None),
                    Err(other) => Err(other),
                },
            };
            let wish = match ended? {
                Some(End::Complete) => return Ok(()),
                Some(End::Lost(refusal)) if !established => {
                    return Err(Error::Refused(Box::new(refusal)));
                }
                Some(End::Lost(refusal)) => {
                    note(&refusal, cursor.after());
                    refusal.retry_after.unwrap_or_default()
                }
                None => Duration::ZERO,
            };
            sleep(wish.max(pause).mul_f64(random::between(0.5..1.5))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One stream, from its call to its end.
    async fn stream(
        &self,
        mut client: Client,
        cursor: &mut Cursor,
        established: &mut bool,
        pause: &mut Duration,
        incomplete: &mut bool,
        show: &mut impl FnMut(Attachment) -> io::Result<()>,
    ) -> Result<Option<End>, Error> {
        cursor.begin();
        let request = Request::new(WatchAttachmentRequest {
            instance_id: self.instance.clone(),
            network_interface_id: self.eni.clone(),
            after_revision: cursor.after(),
            follow: self.follow,
        });
        let mut silence = FIRST_SILENCE;
        let mut stream = match timeout(silence, client.watch_attachment(request)).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return lost(status.into()).map(Some),
            Err(_) => return Ok(Some(silent(silence))),
        };
        loop {
            let message = match timeout(silence, stream.message()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => {
                    // A proxy that loses the gateway may end the stream without a status.
                    return match stream.trailers().await {
                        Ok(Some(_)) => Ok(Some(End::Complete)),
                        Ok(None) => Ok(Some(without_status())),
                        Err(status) => lost(status.into()).map(Some),
                    };
                }
                Ok(Err(status)) => return lost(status.into()).map(Some),
                Err(_) => return Ok(Some(silent(silence))),
            };
            *established = true;
            *pause = SHORTEST_PAUSE;
            match message.event {
                Some(Event::Attachment(attachment)) if cursor.attachment(&attachment) => {
                    show(attachment)?
                }
                Some(Event::Heartbeat(heartbeat)) => {
                    cursor.heartbeat(heartbeat.revision);
                    if std::mem::replace(incomplete, heartbeat.incomplete) != heartbeat.incomplete {
                        note_coverage(Coverage::from(&heartbeat));
                    }
                    if let Some(interval) =
                        heartbeat.interval.and_then(|interval| Duration::try_from(interval).ok())
                    {
                        silence =
                            interval.saturating_mul(MISSED_HEARTBEATS).max(Duration::from_secs(1));
                    }
                }
                Some(Event::Attachment(_)) | None => {}
            }
        }
    }
}

fn lost(refusal: Refusal) -> Result<End, Error> {
    if refusal.is_lost() { Ok(End::Lost(refusal)) } else { Err(Error::Refused(Box::new(refusal))) }
}

fn without_status() -> End {
    End::Lost(tonic::Status::unavailable("the stream ended without a status").into())
}

fn silent(duration: Duration) -> End {
    let message = format!("silent for {}", humantime::format_duration(duration));
    End::Lost(tonic::Status::unavailable(message).into())
}

fn note(refusal: &Refusal, after: u64) {
    // A closed stderr is no error.
    let _ = writeln!(
        anstream::stderr(),
        "{} {}; continuing after revision {after}",
        paint(BUSY, "interrupted:"),
        refusal.headline()
    );
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
