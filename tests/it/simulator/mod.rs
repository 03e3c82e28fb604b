//! The simulator over real sockets, with a minimal caller and the official SDK.

use std::future::Future;
use std::time::Duration;

use eni_gateway::simulator::{DurationRange, Handle, Settings, Simulator, World, WorldFile};

mod caller;
mod control;
mod faults;
mod official_sdk;
mod open_api;

/// The default world in a hurry, on a free port.
async fn start() -> Handle {
    start_with(Settings::default()).await
}

async fn start_with(settings: Settings) -> Handle {
    let mut world = WorldFile::default_world();
    let quick = DurationRange::fixed(Duration::from_millis(50));
    world.rules.attach_time = quick;
    world.rules.detach_time = quick;
    world.rules.power_time = quick;
    Simulator::start(([127, 0, 0, 1], 0).into(), World::new(world), settings).await.unwrap()
}

/// Waits until it holds; fails after a minute.
async fn eventually<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it never came true");
}
