//! A watcher of all instances, by the printed client, through the loss of replicas and of Redis'
//! primary.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use eni_gateway::simulator::{EniKind, EniStatus};
use futures_util::StreamExt as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::Instant;

use super::{LONG, blocks, generated};
use crate::support::gateway::{Client, Replica, Stage, attach, eni, eventually, try_attach};
use crate::support::python::python;
use crate::support::redis::sentinels::Watched;

const INSTANCES: usize = 12;
const ENIS: usize = 48;

/// The printed client, which watches all instances.
struct Watcher {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Watcher {
    fn start(generated: &Path, replicas: &[&Replica]) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut printed = blocks("python");
        // The last block calls the others.
        printed.pop();
        let program = printed.join("\n") + include_str!("../../python/fleet.py");
        let addresses: Vec<_> = replicas.iter().map(|replica| replica.address()).collect();
        let mut process = Command::new(python())
            .args(["-c", &program, &format!("ipv4:{}", addresses.join(","))])
            .env("PYTHONPATH", generated)
            .env_remove("http_proxy")
            .env_remove("https_proxy")
            .current_dir(here)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            input: process.stdin.take().unwrap(),
            output: BufReader::new(process.stdout.take().unwrap()).lines(),
            _process: process,
        }
    }

    /// What it holds as attached.
    async fn attached(&mut self) -> Vec<String> {
        self.input.write_all(b"\n").await.unwrap();
        let line = self.output.next_line().await.unwrap().expect("it runs");
        serde_json::from_str(&line).unwrap()
    }

    async fn until_as_ens(&mut self, stage: &Stage, count: usize) {
        let (expected, deadline) = (in_ens(stage), Instant::now() + LONG);
        assert_eq!(expected.len(), count);
        loop {
            let held = self.attached().await;
            if held == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{held:?} instead of {expected:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What ENS has attached, as `instance/eni`.
fn in_ens(stage: &Stage) -> Vec<String> {
    let world = stage.ens.world(|world, _| world.snapshot());
    let secondary = world.enis.iter().filter(|spec| spec.kind != EniKind::Primary);
    let here = secondary.filter(|spec| spec.placement.status == EniStatus::InUse);
    let mut attached: Vec<_> = here
        .map(|spec| format!("{}/{}", spec.placement.instance.as_deref().unwrap(), spec.id))
        .collect();
    attached.sort();
    attached
}

/// Attaches these ENIs, each until it is accepted.
async fn attach_all(clients: &[Client], numbers: std::ops::Range<usize>) {
    let calls = numbers.map(|number| async move {
        let request = attach(&format!("i-{}", number % INSTANCES), &eni(number + 1));
        for client in clients.iter().cycle().skip(number) {
            if try_attach(client, request.clone()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    futures_util::stream::iter(calls).buffer_unordered(12).collect::<Vec<()>>().await;
}

/// Until ENS has this many attached.
async fn attached(stage: &Stage, count: usize) {
    eventually("not attached", async || in_ens(stage).len() == count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_watcher_holds_what_ens_has_after_kills_a_failover_and_a_rollout() {
    let mut watched = Watched::start().await;
    let names: Vec<String> = (0..INSTANCES).map(|number| format!("i-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let stage = Stage::over_many(watched.url(), &names, ENIS).await;
    let often = [("WATCH__HEARTBEAT", "1s")];
    let [mut one, mut two] = [stage.replica(&often).await, stage.replica(&often).await];
    let (one_client, two_client) = (one.client().await, two.client().await);
    let generated = generated().await;
    let mut watcher = Watcher::start(generated.path(), &[&one, &two]);
    attach_all(&[one_client, two_client.clone()], 0..12).await;
    attached(&stage, 12).await;
    watcher.until_as_ens(&stage, 12).await;

    one.kill();
    attach_all(std::slice::from_ref(&two_client), 12..24).await;
    attached(&stage, 24).await;
    watcher.until_as_ens(&stage, 24).await;

    // The next replica begins where the first one was.
    let next = stage.spawn_on(one.port(), &often);
    next.ready().await;
    watched.fail_over().await;
    attach_all(std::slice::from_ref(&two_client), 24..36).await;
    attached(&stage, 36).await;
    watcher.until_as_ens(&stage, 36).await;

    // A rollout: the second one ends in order.
    assert!(two.terminate().await.1);
    attach_all(&[next.client().await], 36..48).await;
    attached(&stage, 48).await;
    watcher.until_as_ens(&stage, 48).await;
}
