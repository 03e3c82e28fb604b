use futures_util::future::try_join_all;

use super::*;
use crate::model::Caller;

fn open(limits: Limits) -> Admission {
    Admission::new(limits, drain::Watch::default())
}

fn one() -> InstanceId {
    "i-1".parse().unwrap()
}

fn other() -> InstanceId {
    "i-2".parse().unwrap()
}

async fn attaches(
    admission: &Admission,
    number: usize,
    instance: &InstanceId,
) -> Result<AdmissionPermit, Failure> {
    let deadline = Instant::now() + Duration::from_secs(60);
    admission.attaches(number, Peer::LOCAL, instance, deadline).await
}

async fn attach(admission: &Admission, instance: &InstanceId) -> Result<AdmissionPermit, Failure> {
    attaches(admission, 1, instance).await
}

const TIGHT: Limits = Limits { attaches: 1, reads: 1, streams: 2, streams_per_peer: 2 };

#[tokio::test(start_paused = true)]
async fn a_place_is_free_again_when_its_permit_is_dropped() {
    let admission = open(TIGHT);
    let first = attach(&admission, &one()).await.expect("the first place");
    let refused = attach(&admission, &one()).await.expect_err("there is one place");
    assert_eq!(refused.reason, Reason::Overloaded);
    assert!(refused.retry_after.is_some());
    drop(first);
    assert!(attach(&admission, &one()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn several_attaches_get_all_their_places_or_none() {
    // Four of the places are for one instance.
    let admission = open(Limits { attaches: 16, ..TIGHT });
    let single = attach(&admission, &one()).await.expect("one of four");
    let batch = async || attaches(&admission, 3, &one()).await;
    let first = batch().await.expect("three of four");
    let (second, third, single) = tokio::join!(batch(), batch(), async {
        drop(first);
        tokio::task::yield_now().await;
        single
    });
    assert_eq!([&second, &third].map(Result::is_ok), [true, false], "no part is kept");
    drop((second, single));
    let whole = attaches(&admission, 20, &one()).await.expect("the whole share");
    assert!(attach(&admission, &one()).await.is_err());
    drop(whole);
    assert!(attach(&admission, &one()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_read_of_several_instances_takes_a_place_for_each() {
    let admission = open(Limits { reads: 40, ..TIGHT });
    let batch = async || admission.batch(Peer::LOCAL, 16).await;
    let _batches = (batch().await.expect("16 of 40"), batch().await.expect("32 of 40"));
    assert_eq!(batch().await.expect_err("8 are left").reason, Reason::Overloaded);
    let _single = admission.read(Peer::LOCAL, &one()).await.expect("one of the 8");
}

#[tokio::test(start_paused = true)]
async fn each_kind_has_its_own_cap() {
    let admission = open(TIGHT);
    let _attach = attach(&admission, &one()).await.expect("an attach");
    let _read = admission.read(Peer::LOCAL, &one()).await.expect("a read beside it");
    let _stream = admission.stream(Peer::LOCAL, &one()).await.expect("a stream beside them");
    assert_eq!(admission.open_streams(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_drain_turns_newcomers_away_and_lets_the_others_finish() {
    let signal = drain::Signal::default();
    let admission = Admission::new(TIGHT, signal.watch());
    let inside = admission.stream(Peer::LOCAL, &one()).await.expect("admitted before the drain");
    signal.enter(Phase::Draining);
    for refused in [
        attach(&admission, &one()).await,
        admission.read(Peer::LOCAL, &one()).await,
        admission.stream(Peer::LOCAL, &one()).await,
    ] {
        assert_eq!(refused.expect_err("the gate is closed").reason, Reason::Draining);
    }
    assert_eq!(admission.open_streams(), 1);
    drop(inside);
    assert_eq!(admission.open_streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_at_one_instance_leaves_room_for_the_others() {
    let admission = open(Limits { attaches: 8, reads: 8, streams: 8, streams_per_peer: 8 });
    let one_instance = one();
    let crowd = try_join_all((0..2).map(|_| attach(&admission, &one_instance))).await.unwrap();
    let refused = attach(&admission, &one()).await.expect_err("its share is a quarter");
    assert_eq!(refused.reason, Reason::Overloaded);
    assert!(refused.message.contains("one instance"), "{}", refused.message);
    let _quiet = attach(&admission, &other()).await.expect("the others have room");
    drop(crowd);
    let _again = attach(&admission, &one()).await.expect("its share is free again");

    let _readers =
        try_join_all((0..4).map(|_| admission.read(Peer::LOCAL, &one_instance))).await.unwrap();
    assert!(admission.read(Peer::LOCAL, &one()).await.is_err(), "its share is half");
    let _opening = try_join_all((0..4).map(|_| admission.opening(Peer::LOCAL))).await.unwrap();
    assert!(admission.read(Peer::LOCAL, &other()).await.is_err(), "full");
}

fn peer(host: u8, connection: u64) -> Peer {
    Peer { holder: Holder::Address([10, 0, 0, host].into()), connection }
}

#[tokio::test(start_paused = true)]
async fn a_free_place_goes_to_the_peer_and_then_the_connection_with_the_fewest() {
    let admission = open(Limits { reads: 4, ..Limits::default() });
    let mut busy = try_join_all((0..4).map(|_| admission.opening(peer(1, 1)))).await.unwrap();
    let order = std::sync::Mutex::new(Vec::new());
    let wait = async |peer: Peer| {
        let _place = admission.opening(peer).await.expect("a place becomes free");
        order.lock().unwrap().push(peer.connection);
    };
    let free = async {
        tokio::task::yield_now().await;
        busy.pop();
    };
    tokio::join!(wait(peer(1, 1)), wait(peer(1, 2)), wait(peer(2, 3)), free);
    assert_eq!(order.into_inner().unwrap(), [3, 2, 1]);
    let refused = admission.opening(peer(2, 3)).await.map(drop);
    assert!(refused.is_ok(), "the places are free again");
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_a_place_for_a_second() {
    let admission = open(TIGHT);
    let _place = admission.opening(peer(1, 1)).await.expect("the place");
    let refused = admission.opening(peer(2, 2)).await.expect_err("full");
    assert_eq!(refused.reason, Reason::Overloaded);
}

#[tokio::test(start_paused = true)]
async fn an_attach_is_refused_before_its_deadline() {
    let admission = open(TIGHT);
    let _place = attach(&admission, &one()).await.expect("the place");
    let began = Instant::now();
    let deadline = began + Duration::from_millis(100);
    let refused = admission.attaches(1, Peer::LOCAL, &one(), deadline).await;
    assert_eq!(refused.expect_err("full").reason, Reason::Overloaded);
    assert!(Instant::now() <= deadline + Duration::from_millis(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_leaves_a_fifth_of_the_streams_to_others() {
    let admission = open(Limits { streams: 10, streams_per_peer: 8, ..Limits::default() });
    let instances: Vec<InstanceId> = (0..9).map(|n| format!("i-{n}").parse().unwrap()).collect();
    let _open =
        try_join_all(instances[..8].iter().map(|i| admission.stream(peer(1, 1), i))).await.unwrap();
    let refused = admission.stream(peer(1, 2), &instances[8]).await.expect_err("its share");
    assert!(refused.message.contains("one client"), "{}", refused.message);
    assert!(admission.stream(peer(2, 3), &instances[8]).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_waiting_crowd_makes_room_for_another_connection() {
    let admission = open(Limits { reads: 2, ..Limits::default() });
    let _busy = try_join_all((0..2).map(|_| admission.opening(peer(1, 1)))).await.unwrap();
    let crowd = futures_util::future::join_all((0..2).map(|_| admission.opening(peer(1, 1))));
    let newcomer = async {
        tokio::task::yield_now().await;
        let began = tokio::time::Instant::now();
        let refused = admission.opening(peer(1, 2)).await.map(drop);
        (refused.is_err(), began.elapsed())
    };
    let (_, (refused, waited)) = tokio::join!(crowd, newcomer);
    assert!(refused && waited >= Duration::from_secs(1), "it waited for its second: {waited:?}");
}

#[tokio::test(start_paused = true)]
async fn connections_with_waiting_calls_take_turns() {
    let admission = open(Limits { reads: 4, ..Limits::default() });
    let mut busy = try_join_all((0..4).map(|_| admission.opening(peer(1, 9)))).await.unwrap();
    let limit = &admission.reads;
    let order = std::sync::Mutex::new(Vec::new());
    let wait = async |connection| {
        let patience = Duration::from_secs(60);
        let _place = limit.acquire(1, patience, peer(1, connection), None).await.unwrap();
        order.lock().unwrap().push(connection);
    };
    let free = async {
        tokio::task::yield_now().await;
        busy.pop();
    };
    tokio::join!(wait(1), wait(1), wait(2), wait(3), free);
    assert_eq!(order.into_inner().unwrap(), [1, 2, 3, 1]);
}

#[tokio::test(start_paused = true)]
async fn an_identified_caller_has_one_share_from_every_address() {
    let admission = open(Limits { streams: 4, streams_per_peer: 2, ..Limits::default() });
    let (one, other) = (Caller("dns:a".into()), Caller("dns:b".into()));
    let stream = async |host, caller: &Caller, instance: &str| {
        let peer = peer(host, u64::from(host)).identified_as(caller);
        admission.stream(peer, &instance.parse().unwrap()).await
    };
    let _open = (stream(1, &one, "i-1").await.unwrap(), stream(2, &one, "i-2").await.unwrap());
    assert!(stream(3, &one, "i-3").await.is_err(), "its share");
    assert!(stream(1, &other, "i-3").await.is_ok(), "the other's share");
}
