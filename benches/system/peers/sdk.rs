//! The loop that callers write with the official SDK, beside the gateway, on the simulator: calls
//! of ENS, and how late the caller sees that the ENI is in use.
//!
//! Both attach the same ENIs in the same groups. Each group has its own time from an accepted
//! attach to InUse, so that no pause between two polls fits all of them. ENS throttles the account
//! at the gateway's default budget.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use eni_gateway::grpc::proto::watch_attachment_response::Event;
use eni_gateway::grpc::proto::{WatchAttachmentRequest, attachment::State};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Result;
use crate::args::Args;
use crate::cases::attach;
use crate::load::Target;
use crate::process::{PATIENCE, Process, free_address, until};
use crate::redis::Redis;
use crate::side::{Client, KEY_ID, KEY_SECRET, Program, Replica, http};
use crate::stats::percentile;

/// ENIs of one group, on two instances.
const GROUP: usize = 20;
/// The account's limits: what the gateway takes them for unless configured otherwise.
const RATES: [&str; 4] =
    ["--rate", "AttachNetworkInterface=5", "--rate", "DescribeNetworkInterfaces=20"];
const LOOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/system/peers/sdk_loop.py");

/// The loop, then each gateway.
pub(super) async fn run(args: &Args) -> Result<BTreeMap<String, f64>> {
    let programs = args.programs();
    let gateway = programs.iter().find_map(|program| match program {
        Program::Gateway(_, path) => Some((program, path)),
        Program::Floor => None,
    });
    let (program, path) = gateway.ok_or("there is no gateway")?;
    let groups = args.loop_enis() / GROUP;
    let mut figures = BTreeMap::new();

    let simulator = Simulator::start(path, groups).await?;
    let lags = sdk_loop(simulator.address, groups).await?;
    simulator.keep("SDK", lags, &mut figures).await?;

    let (simulator, redis) = (Simulator::start(path, groups).await?, Redis::start().await?);
    let settings = [("LEDGER__FRESH", "true")];
    let replica = Replica::start(program, &redis.url(), &simulator.url(), &settings)?;
    replica.ready().await?;
    let lags = through_gateway(&simulator, &replica.connect().await?, groups).await?;
    simulator.keep("gateway", lags, &mut figures).await?;
    Ok(figures)
}

/// The time from an accepted attach to InUse.
fn attach_time(group: usize) -> Duration {
    Duration::from_millis(2000 + 450 * group as u64)
}

/// What of a group's ENIs: the instance and the ENI.
fn target(group: usize, number: usize) -> Target {
    Target::new(format!("eni-{group}-{number}"), format!("i-{group}-{}", number % 2))
}

struct Simulator {
    address: SocketAddr,
    _process: Process,
    _world: tempfile::NamedTempFile,
}

impl Simulator {
    async fn start(program: &Path, groups: usize) -> Result<Self> {
        let (address, world) =
            (free_address(), tempfile::Builder::new().suffix(".json").tempfile()?);
        let of_groups = |count, id: fn(Target) -> String| {
            let all = (0..groups)
                .flat_map(move |group| (0..count).map(move |number| target(group, number)));
            all.map(|target| json!({ "id": id(target) })).collect::<Vec<Value>>()
        };
        let things = json!({
            "instances": of_groups(2, |target| target.instance),
            "enis": of_groups(GROUP, |target| target.eni),
        });
        std::fs::write(world.path(), things.to_string())?;
        let mut command = Command::new(program);
        command
            .args(["simulator", "--listen", &address.to_string(), "--world"])
            .arg(world.path())
            .args(RATES);
        let process = Process::start(key(&mut command))?;
        let simulator = Self { address, _process: process, _world: world };
        until("the simulator", PATIENCE, async || simulator.journal().await).await?;
        Ok(simulator)
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn journal(&self) -> Result<Value> {
        Ok(serde_json::from_str(&http(self.address, "_simulator/journal").await?)?)
    }

    /// Sets the time from an accepted attach to InUse, of the attaches that follow.
    async fn set_attach_time(&self, time: Duration) -> Result<()> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let rules = json!({ "attach_time": format!("{}ms", time.as_millis()) });
        let answer =
            client.post(format!("{}/_simulator/rules", self.url())).json(&rules).send().await?;
        answer.error_for_status()?;
        Ok(())
    }

    /// Keeps how late callers were, and what ENS was asked.
    async fn keep(
        &self,
        who: &str,
        mut lags: Vec<Duration>,
        figures: &mut BTreeMap<String, f64>,
    ) -> Result<()> {
        let journal = self.journal().await?;
        let calls = |action: &str| journal["actions"][action]["calls"].as_f64().unwrap_or_default();
        lags.sort_unstable();
        let sum: Duration = lags.iter().sum();
        figures.extend([
            (format!("{who}: attaches"), calls("AttachNetworkInterface")),
            (format!("{who}: describes"), calls("DescribeNetworkInterfaces")),
            (format!("{who}: lag, mean ms"), sum.as_secs_f64() * 1e3 / lags.len() as f64),
            (format!("{who}: lag, p99 ms"), percentile(&lags, 0.99).as_secs_f64() * 1e3),
        ]);
        Ok(())
    }
}

fn key(command: &mut Command) -> &mut Command {
    command
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY_ID)
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", KEY_SECRET)
}

async fn sdk_loop(simulator: SocketAddr, groups: usize) -> Result<Vec<Duration>> {
    let venv = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/python");
    let python = if Path::new(venv).exists() { venv } else { "python3" };
    let times: Vec<String> =
        (0..groups).map(|group| attach_time(group).as_millis().to_string()).collect();
    let mut command = Command::new(python);
    key(&mut command).args([LOOP, &simulator.to_string(), &GROUP.to_string()]).args(times);
    let output = tokio::process::Command::from(command).output().await?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(errors.lines().last().unwrap_or("the loop failed").to_owned().into());
    }
    let lags: Vec<f64> = serde_json::from_slice(&output.stdout)?;
    Ok(lags.into_iter().map(|lag| Duration::from_secs_f64(lag.max(0.0))).collect())
}

/// Each caller attaches, and watches until the ENI is attached.
async fn through_gateway(
    simulator: &Simulator,
    client: &Client,
    groups: usize,
) -> Result<Vec<Duration>> {
    let mut callers = JoinSet::new();
    for group in 0..groups {
        simulator.set_attach_time(attach_time(group)).await?;
        let (accepted, mut accepts) = tokio::sync::mpsc::channel(GROUP);
        for number in 0..GROUP {
            let (client, accepted) = (client.clone(), accepted.clone());
            callers.spawn(async move {
                attach(client.clone(), target(group, number)).await?;
                let at = Instant::now();
                accepted.send(()).await?;
                until_attached(client, target(group, number)).await?;
                Ok::<_, crate::Error>(at.elapsed().saturating_sub(attach_time(group)))
            });
        }
        // The next group's time is not theirs.
        for _ in 0..GROUP {
            accepts.recv().await.ok_or("a caller has ended")?;
        }
    }
    let mut lags = Vec::new();
    while let Some(lag) = callers.join_next().await {
        lags.push(lag??);
    }
    Ok(lags)
}

async fn until_attached(mut client: Client, target: Target) -> Result<()> {
    let request = WatchAttachmentRequest {
        instance_id: target.instance,
        network_interface_id: target.eni,
        ..WatchAttachmentRequest::default()
    };
    let mut stream = client.watch_attachment(request).await?.into_inner();
    while let Some(message) = stream.message().await? {
        if let Some(Event::Attachment(attachment)) = message.event
            && attachment.state() == State::Attached
        {
            return Ok(());
        }
    }
    Err("the stream ended before the ENI was attached".into())
}
