//! Who else is there: readers, and programs that attach past the gateways, without a look at what is free.

use std::sync::Arc;
use std::time::Duration;

use eni_gateway::grpc::proto::{GetAttachmentRequest, ListAttachmentsRequest};
use eni_gateway::simulator::{EniStatus, Placement};
use rand::prelude::*;
use tokio::time::{sleep, timeout};

use crate::arena::{Arena, CROWDED};
use crate::support::gateway::eni;

/// Readers of each ledger.
pub(crate) const READERS: usize = 3;
/// ENIs that others attach.
pub(crate) const FOREIGN: usize = 8;
/// Instances that they attach to.
pub(crate) const SHARED: std::ops::Range<usize> = CROWDED..CROWDED + 4;
/// How long a read may take: a describe, and the wait for its permit.
const READ: Duration = Duration::from_secs(15);

/// Lists and gets by turns, over any gateway, until the run ends.
pub(crate) async fn read(arena: Arc<Arena>, mut random: StdRng) {
    while !arena.is_ending() {
        let mut client = arena.client(&mut random);
        let instance_id = format!("i-{}", random.random_range(0..arena.instances));
        let network_interface_id = eni(random.random_range(1..=arena.instances));
        let reading = async {
            // What a read says while everything breaks is judged where it is watched.
            if random.random_bool(0.5) {
                let request = ListAttachmentsRequest {
                    instance_id,
                    ..Default::default()
                };
                drop(client.list_attachments(request).await);
            } else {
                let request = GetAttachmentRequest {
                    instance_id,
                    network_interface_id,
                };
                drop(client.get_attachment(request).await);
            }
        };
        // A process that stands still answers nobody.
        drop(timeout(READ, reading).await);
        sleep(Duration::from_millis(random.random_range(5..50))).await;
    }
}

/// Attaches an ENI of its own here and there, and takes it off again, until the run ends.
pub(crate) async fn attach(arena: Arc<Arena>, own: String, mut random: StdRng) {
    let place = |placement| {
        let placed = arena.stage.ens.world(|world, now| world.force(&own, placement, now));
        placed.expect("the ENI and the instance exist");
    };
    while !arena.is_ending() {
        sleep(Duration::from_millis(random.random_range(500..5_000))).await;
        place(Placement::on(
            EniStatus::InUse,
            format!("i-{}", random.random_range(SHARED)),
        ));
        sleep(Duration::from_millis(random.random_range(500..5_000))).await;
        place(Placement::default());
    }
}
