//! All faults at once: killed replicas, an ENS that drops, masks, delays and refuses, ENIs that
//! others detach. ENS's journal never shows an instance past its limit, and in the end every record
//! agrees with ENS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::grpc::proto::{Attachment, ListAttachmentsRequest};
use eni_gateway::simulator::{Action, EniStatus, Placement};
use futures_util::future::join_all;
use rand::prelude::*;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::support::ens_faults::EnsFaults;
use crate::support::gateway::{
    Client, Replica, Stage, attach, connect, eni, reason, try_attach, watch, within,
};

const INSTANCES: [&str; 8] = ["i-0", "i-1", "i-2", "i-3", "i-4", "i-5", "i-6", "i-7"];
const ENIS: usize = 24;
const LIMIT: usize = 3;
const LASTS: Duration = Duration::from_secs(15);
const SETTINGS: [(&str, &str); 1] = [("LIMIT__ENIS_PER_INSTANCE", "3")];
const ENS_FAULTS: EnsFaults = EnsFaults { applied_within: 900, hostile: false };

/// The replicas that run now, by their addresses.
type Addresses = Arc<Mutex<Vec<String>>>;

async fn client(addresses: &Addresses, random: &mut StdRng) -> Option<Client> {
    let address = addresses.lock().await.choose(random).cloned()?;
    connect(&address).await.ok()
}

/// Attaches its ENI here and there, watches each attempt to its end, and has the ENI detached again
/// behind the gateway's back.
async fn caller(
    stage: &Stage,
    addresses: &Addresses,
    number: usize,
    seed: u64,
    until: Instant,
) -> BTreeMap<String, usize> {
    let mut random = StdRng::seed_from_u64(seed + number as u64);
    let mut counts = BTreeMap::new();
    while Instant::now() < until {
        let instance = *INSTANCES.choose(&mut random).unwrap();
        let Some(gateway) = client(addresses, &mut random).await else {
            continue;
        };
        let answer =
            try_attach(&gateway, within(Duration::from_secs(5), attach(instance, &eni(number))))
                .await;
        let outcome = answer.as_ref().map_or_else(reason, |_| "OK".to_owned());
        // What a killed replica makes of a call has no reason.
        let outcome = if outcome.contains("Status") { "CUT OFF".to_owned() } else { outcome };
        *counts.entry(outcome).or_default() += 1;
        if answer.is_ok() {
            // A stream that is cut off is for the next caller to take up.
            let seen = tokio::time::timeout(
                Duration::from_secs(6),
                watch(&gateway, instance, &eni(number), 0),
            )
            .await;
            if let Ok(Ok(seen)) = seen {
                assert!(seen.is_sorted_by_key(|attachment| attachment.revision), "{seen:?}");
            }
        }
        let pause = Duration::from_millis(random.random_range(0..300));
        tokio::time::sleep(pause).await;
        stage.ens.world(|world, now| {
            let here =
                world.snapshot().enis.into_iter().find(|spec| spec.id == eni(number)).unwrap();
            if here.placement.status == EniStatus::InUse {
                world.force(&eni(number), Placement::default(), now).unwrap();
            }
        });
    }
    counts
}

async fn trouble(
    stage: &Stage,
    addresses: &Addresses,
    mut replicas: Vec<Replica>,
    seed: u64,
    until: Instant,
) -> Vec<Replica> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut next_kill = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        stage.ens.fault(ENS_FAULTS.draw(&mut random));
        tokio::time::sleep(Duration::from_millis(random.random_range(20..120))).await;
        if Instant::now() >= next_kill {
            let mut dying = replicas.remove(random.random_range(0..replicas.len()));
            addresses.lock().await.retain(|address| address != dying.address());
            dying.kill();
            let born = stage.replica(&SETTINGS).await;
            addresses.lock().await.push(born.address().to_owned());
            replicas.push(born);
            next_kill = Instant::now() + Duration::from_millis(random.random_range(800..2500));
        }
    }
    stage.ens.clear_faults();
    replicas
}

async fn list(gateway: &Client, instance: &str) -> Vec<Attachment> {
    let request = ListAttachmentsRequest {
        instance_id: instance.to_owned(),
        page_size: 100,
        ..Default::default()
    };
    match gateway.clone().list_attachments(request).await {
        Ok(response) => response.into_inner().attachments,
        Err(status) => panic!("{status:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_the_limit_holds_and_every_record_ends_as_ens_says() {
    let seed: u64 = std::env::var("CHAOS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    println!("CHAOS_SEED={seed}");
    let stage = Stage::new(&INSTANCES, ENIS).await;
    let replicas = [
        stage.replica(&SETTINGS).await,
        stage.replica(&SETTINGS).await,
        stage.replica(&SETTINGS).await,
    ];
    let addresses: Addresses =
        Arc::new(Mutex::new(replicas.iter().map(|replica| replica.address().to_owned()).collect()));
    let until = Instant::now() + LASTS;
    let callers =
        join_all((1..=ENIS).map(|number| caller(&stage, &addresses, number, seed, until)));
    let (counts, replicas) =
        tokio::join!(callers, trouble(&stage, &addresses, replicas.into(), seed, until));
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for (reason, count) in counts.into_iter().flatten() {
        *outcomes.entry(reason).or_default() += count;
    }
    println!("callers received {outcomes:?}");

    let gateway = replicas[0].client().await;
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let lists = join_all(INSTANCES.map(|instance| list(&gateway, instance))).await;
        let ended =
            |a: &Attachment| matches!(a.state(), State::Attached | State::Failed | State::Detached);
        let under_way: Vec<_> =
            lists.into_iter().flatten().filter(|attachment| !ended(attachment)).collect();
        if under_way.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            let world = stage.ens.world(|world, _| world.snapshot());
            let ens = |eni: &str| {
                world.enis.iter().find(|spec| spec.id == eni).map(|spec| spec.placement.clone())
            };
            let seen: Vec<_> =
                under_way.iter().map(|a| (a, ens(&a.network_interface_id))).collect();
            panic!("attempts have no end: {seen:#?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let journal = stage.ens.journal();
    println!("{} attaches reached ens", journal.calls_of(Action::AttachNetworkInterface));
    for instance in INSTANCES {
        let counts = journal.instance(instance);
        assert!(
            counts.max_occupied <= LIMIT,
            "{instance} held {} (limit {LIMIT})",
            counts.max_occupied
        );
    }
    let world = stage.ens.world(|world, _| world.snapshot());
    for replica in &replicas {
        assert_eq!(replica.metric("eni_gateway_invariant_violations_total").await, 0.0);
    }
    // What is attached in ENS is attached by the ledger: an attach of it answers so, and sends
    // nothing.
    for spec in world
        .enis
        .iter()
        .filter(|spec| spec.placement.status == EniStatus::InUse && spec.id.starts_with("eni-0"))
    {
        let instance = spec.placement.instance.clone().unwrap();
        let found = try_attach(&gateway, attach(&instance, &spec.id)).await.unwrap();
        assert_eq!(found.state(), State::Attached, "{spec:?}");
    }
    assert_eq!(
        stage.ens.journal().calls_of(Action::AttachNetworkInterface),
        journal.calls_of(Action::AttachNetworkInterface)
    );
    assert!(outcomes.get("OK").copied().unwrap_or_default() > 5, "{outcomes:?}");
}
