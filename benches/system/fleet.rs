//! Watch streams of all instances: what every change of every instance costs, and the memory of
//! streams that are not read. Of gateways alone, because the floor keeps no state to stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::grpc::proto::watch_attachments_response::Event;
use eni_gateway::grpc::proto::{WatchAttachmentsRequest, WatchAttachmentsResponse};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;

use crate::cases::attach;
use crate::format::{table, whole};
use crate::load::{self, Target};
use crate::side::{Client, Program, Side};
use crate::{Result, progress};

/// Time limit for all streams to receive everything.
const PATIENCE: Duration = Duration::from_secs(600);
/// Attaches in flight.
const IN_FLIGHT: usize = 32;

/// What the streams of one gateway cost.
#[derive(Debug, Serialize)]
pub(crate) struct Fleet {
    side: String,
    instances: usize,
    streams: usize,
    /// Until each stream has all instances, all opened at once.
    snapshot_ms: f64,
    bytes_a_stream: f64,
    /// CPU cores in use while nothing happened.
    idle_cores: f64,
    /// An attach at each instance, without streams.
    alone: Round,
    /// The same with the streams.
    watched: Round,
    /// Resident bytes of a stream that is not read, after the change of every instance.
    bytes_a_stalled_stream: f64,
}

/// An attach at each instance.
#[derive(Debug, Serialize)]
struct Round {
    seconds: f64,
    /// CPU of the gateway.
    cpu_s: f64,
    ens_calls: u64,
    messages: u64,
    /// From the end of the last attempt until each stream has its state.
    behind_ms: f64,
}

/// A gateway with its instances.
struct Watched {
    side: Side,
    clients: Vec<Client>,
    instances: usize,
    /// ENIs of each instance so far.
    rounds: usize,
    messages: Arc<AtomicU64>,
    /// A stream sends the number of ENIs that it shows as attached on every instance.
    seen: mpsc::UnboundedReceiver<usize>,
    tx: mpsc::UnboundedSender<usize>,
    streams: JoinSet<()>,
}

/// Measures each gateway with so many instances and streams.
pub(crate) async fn run(
    programs: &[Program],
    (instances, streams): (usize, usize),
    idle: Duration,
) -> Result<Vec<Fleet>> {
    let mut all = Vec::new();
    for program in programs.iter().filter(|program| !matches!(program, Program::Floor)) {
        progress(&format!("{streams} streams of {instances} instances, {}", program.name()));
        let side = Side::start(program, 1, Duration::ZERO).await?;
        let (tx, seen) = mpsc::unbounded_channel();
        let mut watched = Watched {
            clients: side.connect(4).await?,
            side,
            instances,
            rounds: 0,
            messages: Arc::default(),
            seen,
            tx,
            streams: JoinSet::new(),
        };
        watched.round().await?;
        let alone = watched.round().await?;
        let before = watched.resident()?;
        let snapshot_ms = watched.open(streams).await?;
        let bytes_a_stream = (watched.resident()? - before) / streams as f64;
        let (cpu, rest) = (watched.side.usage().await?.cpu, Instant::now());
        sleep(idle).await;
        let idle_cores =
            (watched.side.usage().await?.cpu - cpu).as_secs_f64() / rest.elapsed().as_secs_f64();
        let round = watched.round().await?;
        watched.streams.shutdown().await;
        let bytes_a_stalled_stream = watched.stall(streams).await?;
        all.push(Fleet {
            side: program.name().to_owned(),
            instances,
            streams,
            snapshot_ms,
            bytes_a_stream,
            idle_cores,
            alone,
            watched: round,
            bytes_a_stalled_stream,
        });
    }
    Ok(all)
}

impl Watched {
    fn resident(&self) -> Result<f64> {
        Ok(self.side.replicas[0].process.resident()? as f64)
    }

    /// Attaches one more ENI to each instance, and waits until each stream shows them.
    async fn round(&mut self) -> Result<Round> {
        let number = self.rounds;
        self.rounds += 1;
        self.messages.store(0, Ordering::Relaxed);
        let target = |it| Target::new(format!("eni-{number}-{it}"), format!("fleet-{it}"));
        let targets = (0..self.instances).map(target).collect();
        let (before, began) = (self.side.usage().await?, Instant::now());
        load::each(&self.clients, IN_FLIGHT, targets, attach).await?;
        self.side.settled(self.rounds * self.instances).await?;
        let settled = Instant::now();
        self.until_seen().await?;
        let after = self.side.usage().await?;
        Ok(Round {
            seconds: (settled - began).as_secs_f64(),
            cpu_s: (after.cpu - before.cpu).as_secs_f64(),
            ens_calls: after.ens_calls - before.ens_calls,
            messages: self.messages.load(Ordering::Relaxed),
            behind_ms: settled.elapsed().as_secs_f64() * 1e3,
        })
    }

    /// Until each stream shows the ENIs of all rounds.
    async fn until_seen(&mut self) -> Result<()> {
        let mut complete = 0;
        while complete < self.streams.len() {
            let seen = timeout(PATIENCE, self.seen.recv()).await;
            let seen = seen.map_err(|_| format!("only {complete} streams have everything"))?;
            complete += usize::from(seen == Some(self.rounds));
        }
        Ok(())
    }

    /// Opens so many streams at once. Returns the milliseconds until each has all instances.
    async fn open(&mut self, streams: usize) -> Result<f64> {
        let (clients, began) = (self.side.connect(streams.div_ceil(25)).await?, Instant::now());
        for client in clients.iter().cycle().take(streams).cloned() {
            let (tx, messages, instances) =
                (self.tx.clone(), self.messages.clone(), self.instances);
            self.streams.spawn(async move {
                // A stream that ends early is never complete, which `until_seen` reports.
                if let Ok(stream) = open(client).await {
                    watch(stream, instances, &messages, &tx).await;
                }
            });
        }
        self.until_seen().await?;
        Ok(began.elapsed().as_secs_f64() * 1e3)
    }

    /// The resident bytes of a stream of which only the first message is read, after a round.
    async fn stall(&mut self, streams: usize) -> Result<f64> {
        let before = self.resident()?;
        let mut stalled = Vec::new();
        for client in self.side.connect(streams).await? {
            let mut stream = open(client).await?;
            stream.message().await?;
            stalled.push(stream);
        }
        self.round().await?;
        Ok((self.resident()? - before) / streams as f64)
    }
}

async fn open(mut client: Client) -> Result<Streaming<WatchAttachmentsResponse>> {
    let request = WatchAttachmentsRequest { follow: true, ..WatchAttachmentsRequest::default() };
    Ok(client.watch_attachments(request).await?.into_inner())
}

/// Reads a stream to its end. Sends the number of attached ENIs that every instance has, as often
/// as it rises.
async fn watch(
    mut stream: Streaming<WatchAttachmentsResponse>,
    instances: usize,
    messages: &AtomicU64,
    tx: &mpsc::UnboundedSender<usize>,
) {
    let (mut attached, mut with) = (HashMap::new(), HashMap::<usize, usize>::new());
    while let Ok(Some(message)) = stream.message().await {
        let Some(Event::Instance(instance)) = message.event else {
            continue;
        };
        messages.fetch_add(1, Ordering::Relaxed);
        let enis = instance.attachments.iter().filter(|it| it.state() == State::Attached).count();
        let before = attached.insert(instance.instance_id, enis).unwrap_or_default();
        for count in before + 1..=enis {
            let reached = with.entry(count).or_default();
            *reached += 1;
            if *reached == instances {
                // All that can fail is a measurement that is over.
                let _ = tx.send(count);
            }
        }
    }
}

/// Prints it.
pub(crate) fn print(all: &[Fleet]) {
    let rows = all.iter().map(|fleet| {
        let Fleet { alone, watched, .. } = fleet;
        let messages = watched.messages as f64;
        vec![
            fleet.side.clone(),
            format!("{} × {}", whole(fleet.instances as f64), fleet.streams),
            whole(fleet.snapshot_ms),
            whole(fleet.bytes_a_stream),
            format!("{:.3}", fleet.idle_cores),
            format!("{:.1}", alone.seconds),
            format!("{:.1}", watched.seconds),
            whole(watched.behind_ms),
            format!("{:.1}", messages / (fleet.instances * fleet.streams) as f64),
            format!("{:.1}", (watched.cpu_s - alone.cpu_s) * 1e6 / messages),
            format!("{} → {}", alone.ens_calls, watched.ens_calls),
            whole(fleet.bytes_a_stalled_stream),
        ]
    });
    let head = "side|instances × streams|all after ms|bytes each|idle cores|alone s|watched s|\
                behind ms|messages a change|CPU µs each|ENS calls|bytes stalled";
    let title = "Watch streams of all instances; one attach at each instance";
    table(title, head, &rows.collect::<Vec<_>>());
}
