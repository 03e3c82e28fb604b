//! Watch streams: what one costs while nothing happens, and how fast a change reaches all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eni_gateway::grpc::proto::watch_attachment_response::Event;
use eni_gateway::grpc::proto::{WatchAttachmentRequest, attachment::State};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Streaming};

use crate::args::STREAMS_A_CONNECTION;
use crate::cases::attach;
use crate::format::{table, whole};
use crate::load::Target;
use crate::side::{Client, Program, Side};
use crate::stats::{Figure, figure, percentile};
use crate::{Result, progress};

const INSTANCE: &str = "watched";
/// Time limit for all streams to open, and for a change to reach them all.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one side's streams cost.
#[derive(Debug, Serialize)]
pub(crate) struct Watch {
    side: String,
    streams: usize,
    /// How often an opening was refused as OVERLOADED, and repeated, before all were open.
    refused: usize,
    opened_ms: f64,
    bytes_a_stream: f64,
    /// CPU cores in use while nothing happened.
    idle_cores: f64,
    changes: Vec<Change>,
}

/// One change: from the attach call to the first message about it, over all streams.
#[derive(Debug, Serialize)]
struct Change {
    p50_ms: f64,
    p99_ms: f64,
    messages: usize,
    cpu_us_a_message: f64,
}

/// What a watcher saw of an ENI.
enum Seen {
    First(Instant),
    Attached,
}

/// A side with its streams open.
struct Watched {
    side: Side,
    caller: Client,
    seen: mpsc::UnboundedReceiver<Seen>,
    messages: Arc<AtomicUsize>,
    watch: Watch,
    _watchers: JoinSet<()>,
}

/// Opens `streams` watches of one instance on each side at once, then changes the instance in
/// rounds.
pub(crate) async fn run(
    programs: &[Program],
    streams: usize,
    changes: usize,
    idle: Duration,
) -> Result<Vec<Watch>> {
    let mut sides = Vec::new();
    for program in programs {
        progress(&format!("{streams} watch streams, {}", program.name()));
        sides.push(Watched::open(program, streams, idle).await?);
    }
    for number in 0..changes {
        for side in &mut sides {
            side.change(number).await?;
        }
    }
    Ok(sides.into_iter().map(|side| side.watch).collect())
}

impl Watched {
    async fn open(program: &Program, streams: usize, idle: Duration) -> Result<Self> {
        let side = Side::start(program, 1, Duration::ZERO).await?;
        let caller = side.replicas[0].connect().await?;
        attach(caller.clone(), Target::new("eni-before".to_owned(), INSTANCE.to_owned())).await?;
        side.settled(1).await?;
        let before = side.replicas[0].process.resident()?;
        let clients = side.connect(streams.div_ceil(STREAMS_A_CONNECTION)).await?;
        let (tx, seen) = mpsc::unbounded_channel();
        let (opened, mut opens) = mpsc::channel(streams);
        let (messages, refused) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (began, mut watchers) = (Instant::now(), JoinSet::new());
        for client in clients.iter().cycle().take(streams).cloned() {
            let (tx, opened) = (tx.clone(), opened.clone());
            let (messages, refused) = (messages.clone(), refused.clone());
            watchers.spawn(async move {
                let stream = open(client, &refused).await;
                // The receiver outlives the watchers.
                let _ = opened.send(stream.as_ref().err().map(ToString::to_string)).await;
                if let Ok(stream) = stream {
                    watch(stream, &tx, &messages).await;
                }
            });
        }
        for _ in 0..streams {
            let failure =
                timeout(PATIENCE, opens.recv()).await.map_err(|_| "the streams do not open")?;
            if let Some(Some(failure)) = failure {
                return Err(format!("a stream does not open: {failure}").into());
            }
        }
        let opened_ms = began.elapsed().as_secs_f64() * 1e3;
        sleep(Duration::from_secs(1)).await;
        let after = side.replicas[0].process.resident()?;
        let (cpu, rest) = (side.usage().await?.cpu, Instant::now());
        sleep(idle).await;
        let idle_cores =
            (side.usage().await?.cpu - cpu).as_secs_f64() / rest.elapsed().as_secs_f64();
        let watch = Watch {
            side: program.name().to_owned(),
            streams,
            refused: refused.load(Ordering::Relaxed),
            opened_ms,
            bytes_a_stream: after.saturating_sub(before) as f64 / streams as f64,
            idle_cores,
            changes: Vec::new(),
        };
        Ok(Self { side, caller, seen, messages, watch, _watchers: watchers })
    }

    async fn change(&mut self, number: usize) -> Result<()> {
        self.messages.store(0, Ordering::Relaxed);
        let (before, began) = (self.side.usage().await?, Instant::now());
        attach(self.caller.clone(), Target::new(format!("eni-{number}"), INSTANCE.to_owned()))
            .await?;
        let settles = !matches!(self.side.program, Program::Floor);
        let (mut latencies, mut attached) = (Vec::new(), 0);
        while latencies.len() < self.watch.streams || (settles && attached < self.watch.streams) {
            let seen = timeout(PATIENCE, self.seen.recv()).await;
            match seen.map_err(|_| format!("a change reached only {} streams", latencies.len()))? {
                Some(Seen::First(at)) => latencies.push(at - began),
                Some(Seen::Attached) => attached += 1,
                None => return Err("all streams have ended".into()),
            }
        }
        latencies.sort_unstable();
        let messages = self.messages.load(Ordering::Relaxed);
        let cpu = (self.side.usage().await?.cpu - before.cpu).as_secs_f64();
        self.watch.changes.push(Change {
            p50_ms: percentile(&latencies, 0.5).as_secs_f64() * 1e3,
            p99_ms: percentile(&latencies, 0.99).as_secs_f64() * 1e3,
            messages,
            cpu_us_a_message: cpu * 1e6 / messages as f64,
        });
        Ok(())
    }
}

/// Opens a stream, as often as it is refused, and reads its first message.
async fn open(
    mut client: Client,
    refused: &AtomicUsize,
) -> Result<Streaming<eni_gateway::grpc::proto::WatchAttachmentResponse>> {
    loop {
        let request = WatchAttachmentRequest {
            instance_id: INSTANCE.to_owned(),
            follow: true,
            ..WatchAttachmentRequest::default()
        };
        match client.watch_attachment(request).await {
            Ok(response) => {
                let mut stream = response.into_inner();
                stream.message().await?;
                return Ok(stream);
            }
            Err(status) if status.code() == Code::Unavailable => {
                refused.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(rand::random_range(200..1000))).await;
            }
            Err(status) => return Err(status.into()),
        }
    }
}

/// Reads a stream to its end, and reports the first message about each ENI and its last one.
async fn watch(
    mut stream: Streaming<eni_gateway::grpc::proto::WatchAttachmentResponse>,
    seen: &mpsc::UnboundedSender<Seen>,
    messages: &AtomicUsize,
) {
    let mut last = "eni-before".to_owned();
    while let Ok(Some(message)) = stream.message().await {
        let Some(Event::Attachment(attachment)) = message.event else {
            continue;
        };
        messages.fetch_add(1, Ordering::Relaxed);
        let attached = attachment.state() == State::Attached
            && attachment.network_interface_id != "eni-before";
        if attachment.network_interface_id != last {
            last = attachment.network_interface_id;
            // All that can fail is a measurement that is over.
            let _ = seen.send(Seen::First(Instant::now()));
        }
        if attached {
            let _ = seen.send(Seen::Attached);
        }
    }
}

impl Watch {
    /// Median and spread of one number over the changes.
    fn of(&self, number: fn(&Change) -> f64) -> Figure {
        figure(self.changes.iter().map(number))
    }

    /// Milliseconds with their spread, and their quotient with the floor's.
    fn latency(&self, floor: Option<&Self>, number: fn(&Change) -> f64) -> [String; 2] {
        let Figure { median, least, most } = self.of(number);
        let quotient = floor.map(|floor| format!("{:.2}", median / floor.of(number).median));
        [format!("{median:.0} ({least:.0}–{most:.0})"), quotient.unwrap_or_default()]
    }
}

/// Prints it.
pub(crate) fn print(all: &[Watch]) {
    let floor = all.iter().find(|watch| watch.side == "floor");
    let rows = all.iter().map(|watch| {
        let mut row = vec![
            watch.side.clone(),
            whole(watch.streams as f64),
            whole(watch.opened_ms),
            whole(watch.refused as f64),
            whole(watch.bytes_a_stream),
            format!("{:.3}", watch.idle_cores),
        ];
        row.extend(watch.latency(floor, |change| change.p50_ms));
        row.extend(watch.latency(floor, |change| change.p99_ms));
        let messages = watch.of(|change| change.messages as f64).median / watch.streams as f64;
        let cpu = watch.of(|change| change.cpu_us_a_message).median;
        row.extend([messages, cpu].map(|number| format!("{number:.1}")));
        row
    });
    let head = "side|streams|open after ms|refused|bytes each|idle cores|p50 ms|÷|p99 ms|÷|\
                messages each|CPU µs each";
    let title = "Watch streams of one instance, all opened at once; a change to all of them";
    table(title, head, &rows.collect::<Vec<_>>());
}
