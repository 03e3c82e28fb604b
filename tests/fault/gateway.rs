//! One replica: a process on its own port that can be killed, paused and restarted.

use std::process::ExitCode;
use std::time::Duration;

use eni_gateway::app::{self, Bound, credentials};
use eni_gateway::config::{self, Sources};
use eni_gateway::grpc::proto::attachment_service_client::AttachmentServiceClient;
use eni_gateway::ledger::SafetyCheck;
use eni_gateway::names::INVARIANT_VIOLATED;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use crate::support::clock::Clock;
use crate::support::gateway::{Replica, Stage};
use crate::support::link::Link;
use crate::support::redis::free_port;

/// Names the rule that a gateway shall do without.
pub(crate) const WITHOUT: &str = "FAULT_GATEWAY_WITHOUT";

pub(crate) type Client = AttachmentServiceClient<Channel>;

pub(crate) struct Gateway {
    port: u16,
    settings: Vec<(&'static str, String)>,
    /// Its way to Redis, where that is a single server.
    pub(crate) link: Option<Link>,
    pub(crate) clock: Clock,
    client: Client,
    replica: Mutex<Replica>,
    /// Since when it runs as it should; `None`: it does not.
    well: std::sync::Mutex<Option<Instant>>,
}

/// How long a process takes to start, or to catch up, on a busy machine.
const START: Duration = Duration::from_secs(5);

impl Gateway {
    pub(crate) fn start(
        stage: &Stage,
        mut settings: Vec<(&'static str, String)>,
        link: Option<Link>,
        clock: Clock,
    ) -> Self {
        settings.extend(clock.environment());
        if let Some(link) = &link {
            settings.push(("LEDGER__URL", link.url()));
        }
        let port = free_port();
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
        Self {
            port,
            link,
            clock,
            client: Client::new(endpoint.connect_lazy()),
            replica: Mutex::new(spawn(stage, port, &settings)),
            settings,
            well: std::sync::Mutex::new(Some(Instant::now())),
        }
    }

    fn set_well(&self, since: Option<Instant>) {
        *self.well.lock().unwrap() = since;
    }

    /// Whether its process has run as it should since then.
    pub(crate) fn is_well_since(&self, then: Instant) -> bool {
        self.well.lock().unwrap().is_some_and(|since| since <= then)
    }

    /// A client over the one connection that leads here, whatever runs here at the time.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Where other clients reach it.
    pub(crate) fn target(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) async fn ready(&self) {
        self.replica.lock().await.ready().await;
    }

    pub(crate) async fn metric(&self, name: &str) -> f64 {
        self.replica.lock().await.metric(name).await
    }

    /// kill -9.
    pub(crate) async fn kill(&self) {
        self.set_well(None);
        self.replica.lock().await.kill();
    }

    /// Starts it again.
    pub(crate) async fn revive(&self, stage: &Stage) {
        *self.replica.lock().await = spawn(stage, self.port, &self.settings);
        self.set_well(Some(Instant::now() + START));
    }

    /// SIGTERM, until it has ended.
    pub(crate) async fn terminate(&self) {
        self.set_well(None);
        self.replica.lock().await.terminate().await;
    }

    pub(crate) async fn freeze(&self) {
        self.set_well(None);
        self.replica.lock().await.signal("STOP");
    }

    pub(crate) async fn thaw(&self) {
        self.replica.lock().await.signal("CONT");
        self.set_well(Some(Instant::now() + START));
    }

    /// What it logged of a pair since it was started.
    pub(crate) async fn lines_about(&self, instance: &str, eni: &str) -> Vec<String> {
        let log = self.replica.lock().await.log();
        let (instance, eni) = (format!("\"{instance}\""), format!("\"{eni}\""));
        let about = log.lines().filter(|line| line.contains(&instance) && line.contains(&eni));
        about.map(str::to_owned).collect()
    }

    /// The errors that it logged since it was started.
    pub(crate) async fn violations_logged(&self) -> usize {
        let log = self.replica.lock().await.log();
        log.lines().filter(|line| line.contains(INVARIANT_VIOLATED)).count()
    }
}

fn spawn(stage: &Stage, port: u16, settings: &[(&'static str, String)]) -> Replica {
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    stage.spawn_on(port, &settings)
}

/// Is a gateway without this safety check, configured by the environment as any other.
pub(crate) async fn serve_without(check: SafetyCheck) -> ExitCode {
    let loaded = config::load(Sources::of_process(None)).expect("the settings are good");
    let credentials = credentials::discover(None).await.expect("there are credentials");
    let bound = Bound::bind(&loaded.config).await.expect("the ports are free");
    let stop = std::future::pending();
    match app::run_without(check, &loaded.config, bound, credentials, stop).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
