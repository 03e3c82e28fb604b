//! A watch that resumes after ended streams, stopped replicas and silent connections.

use std::io::{self, Write as _};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::{Response, Status, Streaming};

use super::client::{Client, Options};
use super::error::Error;
use super::refusal::Refusal;
use super::style::{BUSY, paint};
use crate::model::random;

/// Maximum silence of a stream before its first heartbeat, which has the interval.
const FIRST_SILENCE: Duration = Duration::from_secs(45);
/// Number of missed heartbeats after which a stream is dead.
const MISSED_HEARTBEATS: u32 = 3;
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A watch over all its streams.
pub(super) trait Watch {
    /// A message of a stream.
    type Message;

    /// Opens a stream from the present position.
    async fn open(
        &mut self,
        client: &mut Client,
    ) -> Result<Response<Streaming<Self::Message>>, Status>;

    /// Takes a message. Returns the interval of a heartbeat.
    fn take(&mut self, message: Self::Message) -> io::Result<Option<Duration>>;

    /// The present position, in words.
    fn position(&self) -> String;

    /// The flag that continues from the present position.
    fn flag(&self) -> String;
}

/// The end of a stream.
enum End {
    /// Everything in scope has ended.
    Complete,
    /// The stream broke, and can be resumed.
    Lost(Refusal),
}

/// The streams of a watch so far.
struct Progress {
    /// Whether any stream had a message.
    established: bool,
    pause: Duration,
}

/// Opens streams until the gateway ends one with OK, or until the deadline. Only an established
/// watch is resumed; a first call that fails is an error.
pub(super) async fn run(
    options: &Options,
    client: Client,
    watch: &mut impl Watch,
    deadline: Option<Instant>,
) -> Result<(), Error> {
    let watched = resume(options, client, watch);
    match deadline {
        Some(deadline) => match timeout_at(deadline, watched).await {
            Ok(ended) => ended,
            Err(_) => Err(Error::Unfinished { resume: watch.flag() }),
        },
        None => watched.await,
    }
}

async fn resume(options: &Options, client: Client, watch: &mut impl Watch) -> Result<(), Error> {
    let mut client = Some(client);
    let mut progress = Progress { established: false, pause: SHORTEST_PAUSE };
    loop {
        let ended = match client.take() {
            Some(connected) => stream(connected, watch, &mut progress).await,
            None => match options.connect().await {
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
            Some(End::Lost(refusal)) if !progress.established => {
                return Err(Error::Refused(Box::new(refusal)));
            }
            Some(End::Lost(refusal)) => {
                note(&refusal, &watch.position());
                refusal.retry_after.unwrap_or_default()
            }
            None => Duration::ZERO,
        };
        sleep(wish.max(progress.pause).mul_f64(random::between(0.5..1.5))).await;
        progress.pause = (progress.pause * 2).min(LONGEST_PAUSE);
    }
}

/// One stream, from its call to its end.
async fn stream(
    mut client: Client,
    watch: &mut impl Watch,
    progress: &mut Progress,
) -> Result<Option<End>, Error> {
    let mut silence = FIRST_SILENCE;
    let mut stream = match timeout(silence, watch.open(&mut client)).await {
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
        *progress = Progress { established: true, pause: SHORTEST_PAUSE };
        if let Some(interval) = watch.take(message)? {
            silence = interval.saturating_mul(MISSED_HEARTBEATS).max(Duration::from_secs(1));
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

fn note(refusal: &Refusal, position: &str) {
    // A closed stderr is no error.
    let _ = writeln!(
        anstream::stderr(),
        "{} {}; continuing after {position}",
        paint(BUSY, "interrupted:"),
        refusal.headline()
    );
}
