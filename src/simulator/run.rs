//! `eni-gateway simulator`: serves until it receives a stop signal.

use std::io::{self, Write};
use std::net::SocketAddr;

use tokio::signal::unix::{SignalKind, signal};

use super::args::Args;
use super::auth::{AccessKey, DEFAULT_ID, DEFAULT_SECRET};
use super::server::{Handle, Simulator};
use super::world::file::{self, WorldFile};
use super::world::{EniStatus, STOPPED, World};

/// Maximum number of ids of a kind in the greeting.
const FEW: usize = 3;

/// An error of the simulator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The world file is invalid.
    #[error(transparent)]
    World(#[from] file::Error),
    /// The world cannot be printed.
    #[error("cannot print the world: {0}")]
    Print(#[from] toml::ser::Error),
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// Standard output or a signal handler failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs the simulator until SIGINT or SIGTERM, or prints the world.
///
/// # Errors
/// The world file is invalid, or the address cannot be bound.
pub async fn run(args: Args) -> Result<(), Error> {
    let world = args.world()?;
    if args.print_world {
        return Ok(io::stdout().write_all(world.to_toml()?.as_bytes())?);
    }
    // Installed before the start is announced.
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let own_key = AccessKey::from_lookup(|name| std::env::var(name).ok());
    let settings = args.settings(own_key.clone());
    let started = Simulator::start(args.listen, World::new(world.clone()), settings).await;
    let handle = started.map_err(|source| Error::Listen { address: args.listen, source })?;
    io::stdout().write_all(greeting(&handle, own_key.as_ref(), &world).as_bytes())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    handle.shutdown().await;
    Ok(())
}

fn greeting(handle: &Handle, own_key: Option<&AccessKey>, world: &WorldFile) -> String {
    let endpoint = handle.endpoint();
    let key = match own_key {
        None => String::new(),
        Some(key) => format!("\n  key        {} with its secret, from the environment", key.id),
    };
    let stopped = world
        .instances
        .iter()
        .filter(|instance| instance.status == STOPPED)
        .map(|instance| instance.id.as_str());
    let free = world
        .enis
        .iter()
        .filter(|eni| eni.placement.status == EniStatus::Available)
        .map(|eni| eni.id.as_str());
    let few = |ids: Vec<&str>| match ids.as_slice() {
        [] => "none".to_owned(),
        [few @ .., _] if few.len() == FEW => format!("{}, …", few.join(", ")),
        all => all.join(", "),
    };
    let warning = if handle.address().ip().is_loopback() {
        ""
    } else {
        "  warning    other hosts reach this address: they need --control-key for the control endpoints\n"
    };
    format!(
        "ENS simulator on {endpoint}\n\
         \x20 key        ALIBABA_CLOUD_ACCESS_KEY_ID={DEFAULT_ID} ALIBABA_CLOUD_ACCESS_KEY_SECRET={DEFAULT_SECRET}{key}\n\
         \x20 instances  {} (stopped)\n\
         \x20 ENIs       {} (available)\n\
         \x20 gateway    ENI_GATEWAY_ENS__ENDPOINT={endpoint}\n\
         \x20 control    {endpoint}/_simulator/\n{warning}",
        few(stopped.take(FEW + 1).collect()),
        few(free.take(FEW + 1).collect()),
    )
}
