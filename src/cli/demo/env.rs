//! The demo's simulator and gateway, on real sockets. The gateway runs as under `serve`.
//!
//! The simulator does not enforce the limit, so its journal shows whether the gateway does.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Args, JournalSummary, OccupiedSlots};
use crate::app;
use crate::cli::error::Error;
use crate::config::value::{Endpoint, Value as _};
use crate::config::{Config, LedgerUrl};
use crate::model::{InstanceId, InterfaceId};
use crate::simulator::auth::{DEFAULT_ID, DEFAULT_SECRET};
use crate::simulator::{
    Action, DurationRange, Fault, Handle, Settings, Simulator, World, WorldFile,
};

/// The instance that all callers use.
pub(super) const INSTANCE: &str = "i-demo";
/// An instance without callers, for the commands afterwards.
pub(super) const SPARE_INSTANCE: &str = "i-spare";
/// ENIs without a caller, for the commands afterwards.
const SPARE_ENIS: usize = 5;

/// Time from an accepted attach to InUse.
const ATTACH_TIME: (Duration, Duration) =
    (Duration::from_millis(1000), Duration::from_millis(2500));
/// Time that ENS takes to answer an attach.
const ANSWER_TIME: Duration = Duration::from_millis(60);
/// Age of the state that a describe shows, and the gateway's setting for it.
const LAG: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(1));
/// Calls a second of the account: enough, because the demo shows slots, not the budget.
const RATE: u32 = 200;
/// Time limit of the gateway's shutdown.
const DRAIN: Duration = Duration::from_secs(3);

/// The running simulator and gateway.
pub(super) struct DemoEnv {
    simulator: Handle,
    gateway: JoinHandle<Result<(), app::Error>>,
    grpc: SocketAddr,
    admin: SocketAddr,
    stop: CancellationToken,
}

impl DemoEnv {
    /// Starts both.
    pub(super) async fn build(args: &Args) -> Result<Self, Error> {
        let failed = |error: &dyn std::error::Error| Error::failed(error);
        let simulator = Simulator::start(loopback(), world(args)?, Settings::default())
            .await
            .map_err(|error| failed(&error))?;
        simulator.fault(Fault {
            action: Some(Action::AttachNetworkInterface),
            times: u32::MAX,
            delay: ANSWER_TIME,
            ..Fault::default()
        });
        let config = config(args, &simulator)?;
        let credentials =
            app::credentials::fixed(DEFAULT_ID, DEFAULT_SECRET).map_err(Error::Failed)?;
        let bound = app::Bound::bind(&config).await.map_err(|error| match error {
            app::Error::Bind { address, source, .. } if address == args.listen => Error::Failed(format!(
                "cannot listen on {address}: {source}\n  what to do: --listen 127.0.0.1:0 takes a free port"
            )),
            other => failed(&other),
        })?;
        let address = |bound: std::io::Result<SocketAddr>| bound.map_err(|error| failed(&error));
        let (grpc, admin) = (address(bound.grpc_address())?, address(bound.admin_address())?);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let gateway = TaskTracker::new()
            .spawn(async move { app::run(&config, bound, credentials, None, stopped).await });
        Ok(Self { simulator, gateway, grpc, admin, stop })
    }

    /// The gateway's URL.
    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", reachable(self.grpc))
    }

    /// The URL of the gateway's admin listener.
    pub(super) fn admin(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// The simulator's URL.
    pub(super) fn simulator(&self) -> String {
        self.simulator.endpoint()
    }

    /// The simulator's journal.
    pub(super) fn journal(&self) -> JournalSummary {
        let journal = self.simulator.journal();
        let instances = journal.instances.into_iter().filter_map(|(id, counts)| {
            let attaches_at_once = counts.max_attach_processing;
            let held =
                OccupiedSlots { now: counts.occupied, most: counts.max_occupied, attaches_at_once };
            Some((id.parse::<InstanceId>().ok()?, held))
        });
        JournalSummary {
            calls: journal
                .actions
                .into_iter()
                .map(|(action, counts)| (action, counts.calls))
                .collect(),
            // The spare instance is irrelevant.
            instances: instances.filter(|(id, _)| id.as_str() == INSTANCE).collect(),
        }
    }

    /// Returns only if the gateway ends unexpectedly.
    pub(super) async fn broken(&mut self) -> Error {
        match (&mut self.gateway).await {
            Ok(Err(error)) => Error::failed(&error),
            Ok(Ok(())) => Error::Failed("the gateway ended unexpectedly".to_owned()),
            Err(error) => Error::failed(&error),
        }
    }

    /// Stops both: the gateway drains first, as it does on SIGTERM.
    pub(super) async fn close(self) {
        self.stop.cancel();
        // The result no longer matters.
        let _ = tokio::time::timeout(DRAIN * 2, self.gateway).await;
        self.simulator.shutdown().await;
    }
}

/// The ENI of the `number`th caller, from 1; the spare ones follow.
pub(super) fn eni(number: usize) -> Result<InterfaceId, Error> {
    let id = format!("eni-{number:04}");
    id.parse().map_err(|error| Error::failed(&error))
}

fn world(args: &Args) -> Result<World, Error> {
    let mut file =
        WorldFile::simple(&[INSTANCE, SPARE_INSTANCE], usize::from(args.callers) + SPARE_ENIS);
    let (least, most) = ATTACH_TIME;
    let attach_time = format!("{}ms..{}ms", least.as_millis(), most.as_millis());
    file.rules.attach_time = attach_time.parse().map_err(|error| Error::failed(&error))?;
    file.rules.lag_by_id = DurationRange::fixed(LAG.0);
    file.rules.lag_by_instance = DurationRange::fixed(LAG.0);
    file.rules.eni_limit = usize::from(args.slots);
    file.rules.enforce_limit = false;
    Ok(World::new(file))
}

/// The defaults with the simulator's addresses. Files and variables are not read.
fn config(args: &Args, simulator: &Handle) -> Result<Config, Error> {
    let mut config = Config::with_ledger(LedgerUrl::Memory);
    config.grpc.listen = args.listen;
    config.grpc.drain_timeout = DRAIN;
    config.admin.listen = loopback();
    config.ens.endpoint = Endpoint::parse(&simulator.endpoint()).map_err(Error::Failed)?;
    config.ens.visibility_lag = LAG.1;
    config.ens.attach_per_second = RATE;
    config.ens.describe_per_second = RATE;
    config.limit.enis_per_instance = usize::from(args.slots);
    Ok(config)
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// An address that a client can call; a wildcard address is only for listening.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => address,
        ip if ip.is_ipv4() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        _ => (Ipv6Addr::LOCALHOST, address.port()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_is_called_by_loopback() {
        for (listens, called) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("127.0.0.2:1", "127.0.0.2:1")]
        {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), called);
        }
    }
}
