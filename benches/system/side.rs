//! One side of a comparison: a floor or a gateway, with a Redis server and a stand-in for ENS of
//! its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use eni_gateway::grpc::proto::attachment_service_client::AttachmentServiceClient;
use tonic::transport::{Channel, Endpoint};

use crate::Result;
use crate::ens::Ens;
use crate::process::{PATIENCE, Process, free_address, until};
use crate::redis::Redis;

/// The access key. The stand-in does not know it.
pub(crate) const KEY_ID: &str = "bench-access-key-id";
pub(crate) const KEY_SECRET: &str = "bench-access-key-secret";

/// Time limit for what was attached to settle.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

/// Settings that keep the account's budget, the limits of streams and later reconciliations out of
/// the measurement. Every other setting, and every safety check, is as by default.
const SETTINGS: &[(&str, &str)] = &[
    ("LEDGER__FRESH", "true"),
    ("ENS__ATTACH_PER_SECOND", "100000"),
    ("ENS__DESCRIBE_PER_SECOND", "100000"),
    ("TRACKER__RECONCILE_AFTER", "1h"),
    ("WATCH__MAX_STREAMS", "1000000"),
    ("GRPC__DRAIN_TIMEOUT", "1s"),
];

pub(crate) type Client = AttachmentServiceClient<Channel>;

/// A program that is measured.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// The floor.
    Floor,
    /// A gateway of this name.
    Gateway(String, PathBuf),
}

impl Program {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Floor => "floor",
            Self::Gateway(name, _) => name,
        }
    }
}

/// A running side. Dropping it ends its processes.
pub(crate) struct Side {
    pub(crate) program: Program,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) ens: Ens,
    pub(crate) redis: Redis,
}

/// One process of the program.
pub(crate) struct Replica {
    pub(crate) process: Process,
    grpc: SocketAddr,
    /// Where a gateway reports readiness and metrics.
    admin: Option<SocketAddr>,
}

/// What a side used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// CPU time of its server processes.
    pub(crate) cpu: Duration,
    /// Redis scripts.
    pub(crate) scripts: u64,
    /// Calls of ENS.
    pub(crate) ens_calls: u64,
}

impl Side {
    /// Starts everything and waits until it serves.
    pub(crate) async fn start(
        program: &Program,
        replicas: usize,
        ens_latency: Duration,
    ) -> Result<Self> {
        let mut side = Self {
            program: program.clone(),
            replicas: Vec::new(),
            ens: Ens::start(ens_latency).await?,
            redis: Redis::start().await?,
        };
        for _ in 0..replicas {
            let replica = Replica::start(program, &side.redis.url(), &side.ens.url(), SETTINGS)?;
            replica.ready().await.map_err(|error| format!("{error}\n{}", replica.process.log()))?;
            side.replicas.push(replica);
        }
        Ok(side)
    }

    /// So many connections, spread over the replicas.
    pub(crate) async fn connect(&self, connections: usize) -> Result<Vec<Client>> {
        let mut clients = Vec::new();
        for replica in self.replicas.iter().cycle().take(connections) {
            clients.push(replica.connect().await?);
        }
        Ok(clients)
    }

    pub(crate) async fn usage(&self) -> Result<Usage> {
        let mut usage = Usage {
            scripts: self.redis.scripts().await?,
            ens_calls: self.ens.calls(),
            ..Usage::default()
        };
        for replica in &self.replicas {
            usage.cpu += replica.process.cpu()?;
        }
        Ok(usage)
    }

    /// Waits until so many attempts have ended, over all replicas since they started. The floor has
    /// none.
    pub(crate) async fn settled(&self, attempts: usize) -> Result<()> {
        if matches!(self.program, Program::Floor) {
            return Ok(());
        }
        until("all attempts settled", SETTLED_WITHIN, async || {
            let mut ended = 0.0;
            for replica in &self.replicas {
                ended += replica.metric("eni_gateway_attempts_total").await?;
            }
            if ended >= attempts as f64 {
                Ok(())
            } else {
                Err(format!("{ended} of {attempts} have ended").into())
            }
        })
        .await
    }
}

impl Replica {
    /// Starts a process over this Redis and this ENS, a gateway with these settings.
    pub(crate) fn start(
        program: &Program,
        redis: &str,
        ens: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let (grpc, admin) = (free_address(), free_address());
        let (mut command, admin) = match program {
            Program::Floor => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["floor", &grpc.to_string(), redis, ens]);
                (command, None)
            }
            Program::Gateway(_, path) => {
                let mut command = Command::new(path);
                command
                    .arg("serve")
                    .env_clear()
                    .env("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY_ID)
                    .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", KEY_SECRET)
                    .env("ENI_GATEWAY_GRPC__LISTEN", grpc.to_string())
                    .env("ENI_GATEWAY_ADMIN__LISTEN", admin.to_string())
                    .env("ENI_GATEWAY_LEDGER__URL", redis)
                    .env("ENI_GATEWAY_ENS__ENDPOINT", ens);
                for (name, value) in settings {
                    command.env(format!("ENI_GATEWAY_{name}"), value);
                }
                (command, Some(admin))
            }
        };
        let process = Process::start(&mut command)?;
        Ok(Self { process, grpc, admin })
    }

    /// Waits until it serves.
    pub(crate) async fn ready(&self) -> Result<()> {
        until("ready", PATIENCE, async || {
            if let Some(admin) = self.admin {
                http(admin, "readyz").await?;
            }
            self.connect().await.map(drop)
        })
        .await
    }

    /// A connection.
    pub(crate) async fn connect(&self) -> Result<Client> {
        connect(self.grpc).await
    }

    /// Where it serves.
    pub(crate) fn address(&self) -> SocketAddr {
        self.grpc
    }

    /// The sum of a metric over its labels.
    async fn metric(&self, name: &str) -> Result<f64> {
        let text = http(self.admin.ok_or("the floor has no metrics")?, "metrics").await?;
        let samples = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        Ok(samples.filter_map(|(_, value)| value.parse::<f64>().ok()).sum())
    }
}

/// A connection to this address.
pub(crate) async fn connect(address: SocketAddr) -> Result<Client> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(Client::new(endpoint.connect().await?))
}

/// The body of a page. Only 200 is an answer.
pub(crate) async fn http(address: SocketAddr, page: &str) -> Result<String> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    let answer = client.get(format!("http://{address}/{page}")).send().await?;
    Ok(answer.error_for_status()?.text().await?)
}
