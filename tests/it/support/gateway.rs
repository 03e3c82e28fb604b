//! Replicas of the gateway as real processes, over a test's own Redis and simulated ENS.

use std::io::PipeReader;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use eni_gateway::grpc::proto::attachment_service_client::AttachmentServiceClient;
use eni_gateway::grpc::proto::{
    AttachNetworkInterfaceRequest, Attachment, GetAttachmentRequest, WatchAttachmentRequest,
};
use eni_gateway::grpc::trace::UNDOCUMENTED;
use eni_gateway::simulator::auth::{DEFAULT_ID, DEFAULT_SECRET};
use eni_gateway::simulator::{DurationRange, Handle, Settings, Simulator, World, WorldFile};
use tempfile::TempDir;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Bytes, StdError};
use tonic::transport::{Channel, Endpoint};
use tonic_types::{ErrorDetails, StatusExt};

use super::redis::{Server, free_port};
use super::timerless::{self, Timerless};

/// A client without a timer, so that the answer to a deadline is always the gateway's.
pub(crate) type Client = AttachmentServiceClient<Timerless>;

/// Time limit for a process to start, or for a condition to become true. Far more than a busy
/// machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Short, consistent bounds: a hold-down takes 9 s.
const QUICK: [(&str, &str); 10] = [
    ("ENS__VISIBILITY_LAG", "1s"),
    ("ENS__REQUEST_VALIDITY", "2s"),
    ("ENS__ATTEMPT_TIMEOUT", "1500ms"),
    ("ENS__DESCRIBE_TIMEOUT", "1s"),
    ("ENS__ATTACH_PER_SECOND", "1000"),
    ("ENS__DESCRIBE_PER_SECOND", "1000"),
    ("LEDGER__LEASE", "5s"),
    ("LEDGER__TIMEOUT", "500ms"),
    ("LEDGER__FAILOVER_WINDOW", "1s"),
    ("LEDGER__FRESH", "true"),
];

/// Bounds for an ENS that takes up to seven seconds to answer, so that a busy machine has time
/// meanwhile. A hold-down takes 21 s.
pub(crate) const SLOW_ENS: [(&str, &str); 3] =
    [("ENS__ATTEMPT_TIMEOUT", "8s"), ("ENS__REQUEST_VALIDITY", "8s"), ("LEDGER__LEASE", "11s")];

/// Redis, ENS and the replicas over them.
pub(crate) struct Stage {
    pub(crate) redis: Server,
    /// The ledger's URL.
    ledger: String,
    pub(crate) ens: Handle,
    /// The replicas' binary.
    pub(crate) program: PathBuf,
    directory: TempDir,
}

/// One replica.
pub(crate) struct Replica {
    process: Child,
    log: PathBuf,
    address: String,
    admin: u16,
}

impl Stage {
    /// A stage over a running Redis, with these instances and this many available ENIs.
    pub(crate) async fn new(instances: &[&str], enis: usize) -> Self {
        Self::over(Server::start().await, WorldFile::simple(instances, enis)).await
    }

    pub(crate) async fn over(redis: Server, world: WorldFile) -> Self {
        Self::at(redis.url(), redis, world).await
    }

    /// A stage over a ledger of several servers.
    pub(crate) async fn over_many(ledger: String, instances: &[&str], enis: usize) -> Self {
        Self::at(ledger, Server::stopped(&[]), WorldFile::simple(instances, enis)).await
    }

    async fn at(ledger: String, redis: Server, mut world: WorldFile) -> Self {
        world.rules.attach_time = DurationRange::fixed(Duration::from_millis(300));
        world.rules.detach_time = DurationRange::fixed(Duration::from_millis(300));
        world.rules.lag_by_id = DurationRange::fixed(Duration::from_millis(100));
        world.rules.lag_by_instance = DurationRange::fixed(Duration::from_millis(100));
        // Only the gateway shall keep the limit.
        world.rules.enforce_limit = false;
        let any = "127.0.0.1:0".parse().unwrap();
        let ens = Simulator::start(any, World::new(world), Settings::default()).await.unwrap();
        Self {
            redis,
            ledger,
            ens,
            program: env!("CARGO_BIN_EXE_eni-gateway").into(),
            directory: TempDir::new().unwrap(),
        }
    }

    /// Starts a replica and waits until it is ready.
    pub(crate) async fn replica(&self, settings: &[(&str, &str)]) -> Replica {
        let replica = self.spawn(settings);
        replica.ready().await;
        replica
    }

    /// Starts a replica.
    pub(crate) fn spawn(&self, settings: &[(&str, &str)]) -> Replica {
        self.spawn_on(free_port(), settings)
    }

    /// Starts a replica on this port.
    pub(crate) fn spawn_on(&self, grpc: u16, settings: &[(&str, &str)]) -> Replica {
        let log = self.directory.path().join(format!("{grpc}.log"));
        let file = std::fs::File::create(&log).unwrap();
        self.spawn_with(grpc, settings, log, file.into())
    }

    /// Starts a replica whose standard error ends in a pipe.
    pub(crate) fn spawn_piped(&self, settings: &[(&str, &str)]) -> (Replica, PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        (self.spawn_with(free_port(), settings, PathBuf::new(), writer.into()), reader)
    }

    fn spawn_with(
        &self,
        grpc: u16,
        settings: &[(&str, &str)],
        log: PathBuf,
        stderr: Stdio,
    ) -> Replica {
        let admin = free_port();
        let mut command = Command::new(&self.program);
        command
            .arg("serve")
            .env_clear()
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", DEFAULT_ID)
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", DEFAULT_SECRET)
            .env("ENI_GATEWAY_LEDGER__URL", &self.ledger)
            .env("ENI_GATEWAY_ENS__ENDPOINT", self.ens.endpoint())
            .env("ENI_GATEWAY_GRPC__LISTEN", format!("127.0.0.1:{grpc}"))
            .env("ENI_GATEWAY_ADMIN__LISTEN", format!("127.0.0.1:{admin}"));
        for (name, value) in QUICK.iter().chain(settings) {
            if name.contains("__") {
                command.env(format!("ENI_GATEWAY_{name}"), value)
            } else {
                command.env(name, value)
            };
        }
        let process =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        Replica { process, log, address: format!("127.0.0.1:{grpc}"), admin }
    }
}

impl Replica {
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// A client with its own, open connection.
    pub(crate) async fn client(&self) -> Client {
        let connected = connect(&self.address).await;
        connected.unwrap_or_else(|error| panic!("{error}: {}", self.log()))
    }

    /// A client over tonic's channel, as callers use. It reads `grpc-timeout` too, and may answer
    /// before the gateway.
    pub(crate) async fn channel(&self) -> AttachmentServiceClient<Channel> {
        let endpoint = Endpoint::from_shared(self.endpoint()).unwrap();
        AttachmentServiceClient::new(endpoint.connect().await.unwrap())
    }

    /// Status and body of a page of the admin listener.
    pub(crate) async fn admin(&self, path: &str) -> Option<(u16, String)> {
        // It fails only if one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
        let response =
            client.get(format!("http://127.0.0.1:{}{path}", self.admin)).send().await.ok()?;
        Some((response.status().as_u16(), response.text().await.ok()?))
    }

    /// A metric, summed over its labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.admin("/metrics").await.unwrap_or_default();
        let samples = page.lines().filter_map(|line| line.strip_prefix(name));
        let samples = samples.filter(|rest| rest.starts_with([' ', '{']));
        samples.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub(crate) async fn ready(&self) {
        let ready = async || self.admin("/readyz").await.is_some_and(|(status, _)| status == 200);
        eventually("not ready", ready).await;
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Sends SIGTERM. Returns the time to the end, and whether it succeeded.
    pub(crate) async fn terminate(&mut self) -> (Duration, bool) {
        let began = Instant::now();
        self.signal("TERM");
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return (began.elapsed(), status.success());
            }
            assert!(began.elapsed() < PATIENCE, "does not end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends its process a signal, such as STOP.
    pub(crate) fn signal(&self, signal: &str) {
        let (signal, id) = (format!("-{signal}"), self.id().to_string());
        assert!(Command::new("kill").args([signal, id]).status().unwrap().success());
    }

    /// Pauses the process until `signal("CONT")`. Returns when all its threads are stopped.
    pub(crate) async fn stop(&self) {
        self.signal("STOP");
        let threads = format!("/proc/{}/task", self.id());
        // A thread that just ended is not stopped.
        let stands = |thread: std::io::Result<std::fs::DirEntry>| {
            let state =
                thread.and_then(|thread| std::fs::read_to_string(thread.path().join("stat")));
            state.is_ok_and(|state| {
                state.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"))
            })
        };
        eventually("it does not stop", async || std::fs::read_dir(&threads).unwrap().all(stands))
            .await;
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("log of the replica on {}:\n{log}", self.address);
        } else {
            // Checked after every test.
            assert!(!log.contains(UNDOCUMENTED), "{log}");
        }
    }
}

/// A client of the gateway at `HOST:PORT`.
pub(crate) async fn connect(address: &str) -> Result<Client, timerless::Error> {
    let connection = Timerless::connect(address).await?;
    let origin = format!("http://{address}").parse()?;
    Ok(AttachmentServiceClient::with_origin(connection, origin))
}

/// Waits until the condition holds.
pub(crate) async fn eventually(otherwise: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{otherwise}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn eni(number: usize) -> String {
    format!("eni-{number:04}")
}

pub(crate) fn attach(instance: &str, eni: &str) -> AttachNetworkInterfaceRequest {
    AttachNetworkInterfaceRequest {
        instance_id: instance.to_owned(),
        network_interface_id: eni.to_owned(),
        ..AttachNetworkInterfaceRequest::default()
    }
}

/// A request with a deadline, which the gateway keeps.
pub(crate) fn within<T>(deadline: Duration, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(deadline);
    request
}

/// Attaches. Returns the attachment, or the status and its details.
pub(crate) async fn try_attach<T: GrpcService<Body> + Clone>(
    client: &AttachmentServiceClient<T>,
    request: impl tonic::IntoRequest<AttachNetworkInterfaceRequest>,
) -> Result<Attachment, (Status, ErrorDetails)>
where
    T::Error: Into<StdError>,
    T::ResponseBody: http_body::Body<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
{
    match client.clone().attach_network_interface(request).await {
        Ok(response) => Ok(response.into_inner().attachment.unwrap()),
        Err(status) => {
            let details = status.get_error_details();
            Err((status, details))
        }
    }
}

/// The reason of a failure.
pub(crate) fn reason(failure: &(Status, ErrorDetails)) -> String {
    failure.1.error_info().map_or_else(|| format!("{:?}", failure.0), |info| info.reason.clone())
}

/// Watches a pair or an instance to the end. Returns the attachments sent, in order.
pub(crate) async fn watch(
    client: &Client,
    instance: &str,
    eni: &str,
    after_revision: u64,
) -> Result<Vec<Attachment>, Status> {
    use eni_gateway::grpc::proto::watch_attachment_response::Event;
    let request = WatchAttachmentRequest {
        instance_id: instance.to_owned(),
        network_interface_id: eni.to_owned(),
        after_revision,
        follow: false,
    };
    let mut stream = client.clone().watch_attachment(request).await?.into_inner();
    let mut seen = Vec::new();
    while let Some(message) = stream.message().await? {
        if let Some(Event::Attachment(attachment)) = message.event {
            seen.push(attachment);
        }
    }
    Ok(seen)
}

/// The current attachment.
pub(crate) async fn get<T: GrpcService<Body> + Clone>(
    client: &AttachmentServiceClient<T>,
    instance: &str,
    eni: &str,
) -> Result<Attachment, Status>
where
    T::Error: Into<StdError>,
    T::ResponseBody: http_body::Body<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
{
    let request = GetAttachmentRequest {
        instance_id: instance.to_owned(),
        network_interface_id: eni.to_owned(),
    };
    Ok(client.clone().get_attachment(request).await?.into_inner().attachment.unwrap())
}
