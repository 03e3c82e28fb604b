use super::*;

/// Size of a usual answer, in bytes.
const SIZE: usize = 300;

fn peer(host: u8) -> SocketAddr {
    ([10, 0, 0, host], 1).into()
}

fn connections(total: usize, per_peer: usize) -> Connections {
    Connections::new(ConnectionLimits { total, per_peer })
}

#[test]
fn a_connection_in_its_handshake_is_not_closed_for_its_certificate() {
    let connections = connections(2, 2);
    let pending = connections.admit(peer(1)).expect("a place");
    let open = connections.admit(peer(2)).expect("a place");
    open.set_certificates(Vec::new());
    let closed = connections.close_unless(|_| false);
    assert_eq!(closed.iter().map(|it| it.peer()).collect::<Vec<_>>(), [peer(2)]);
    assert!(open.info().is_closed() && !pending.info().is_closed());
}

#[test]
fn a_newcomer_takes_the_place_of_the_connection_that_opens_longest() {
    let connections = connections(2, 2);
    let first = connections.admit(peer(1)).expect("a place");
    let second = connections.admit(peer(2)).expect("a place");
    let third = connections.admit(peer(3)).expect("the place of the first");
    assert!(first.info().is_closed() && !second.info().is_closed());
    assert_eq!(connections.count(), 2);
    drop(first);
    assert_eq!(connections.count(), 2, "its place was given away already");
    second.mark_open();
    third.mark_open();
    let calls = [OpenCall::on(second.info()), OpenCall::on(third.info())];
    assert!(connections.admit(peer(4)).is_none(), "connections with calls stay");
    drop(calls);
    drop(second);
    assert!(connections.admit(peer(4)).is_some());
}

#[test]
fn a_peer_has_no_more_than_its_share() {
    let connections = connections(8, 2);
    let open: Vec<Place> = (0..2).map(|_| connections.admit(peer(1)).expect("a place")).collect();
    open.iter().for_each(Place::mark_open);
    let _other = connections.admit(peer(2)).expect("a place");
    let _newcomer = connections.admit(peer(1)).expect("the place of the oldest");
    assert_eq!([0, 1].map(|n| open[n].info().is_closed()), [true, false]);
    assert_eq!(connections.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn held_streams_cannot_keep_newcomers_out() {
    for newcomer in [1, 2] {
        let connections = connections(4, if newcomer == 1 { 4 } else { 8 });
        let places: Vec<Place> =
            (0..4).map(|_| connections.admit(peer(1)).expect("a place")).collect();
        places.iter().for_each(Place::mark_open);
        let held = |place: &Place| (OpenCall::on(place.info()), HeldCall::on(place.info()));
        let _held: Vec<_> = places[1..].iter().map(held).collect();
        drop(OpenCall::on(places[0].info()));
        let closed = || places.iter().map(|place| place.info().is_closed()).collect::<Vec<_>>();
        let first = connections.admit(peer(newcomer)).expect("the place of the oldest stream");
        first.mark_open();
        assert_eq!(closed(), [false, true, false, false], "the first was just used");
        tokio::time::advance(IN_USE).await;
        let _second = connections.admit(peer(newcomer)).expect("the place of the first");
        assert_eq!(closed(), [true, true, false, false]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_the_gateway_works_on_is_not_cut_off() {
    let connections = connections(3, 8);
    let places = [(); 3].map(|()| connections.admit(peer(1)).expect("a place"));
    places.iter().for_each(Place::mark_open);
    let mut calls = places.each_ref().map(|place| OpenCall::on(place.info()));
    // The second connection has a stream besides, and the request of the third arrives.
    let _stream = (OpenCall::on(places[1].info()), HeldCall::on(places[1].info()));
    let arriving = HeldCall::on(places[2].info());
    let closed = || places.each_ref().map(|place| place.info().is_closed());
    let newcomer = connections.admit(peer(2)).expect("the place of the third");
    assert_eq!(closed(), [false, false, true]);
    newcomer.mark_open();
    let _busy = OpenCall::on(newcomer.info());
    drop(arriving);
    assert!(connections.admit(peer(3)).is_none(), "all have a call in flight");
    calls[0].mark_answered(SIZE);
    assert!(connections.admit(peer(3)).is_some() && closed()[0], "its answer is not taken");
}

#[test]
fn an_idle_connection_of_the_peer_with_the_most_makes_room() {
    let connections = connections(3, 3);
    let quiet = connections.admit(peer(1)).expect("a place");
    let many: Vec<Place> = (0..2).map(|_| connections.admit(peer(2)).expect("a place")).collect();
    many.iter().chain([&quiet]).for_each(Place::mark_open);
    let newcomer = connections.admit(peer(3)).expect("the oldest idle one of peer 2 is closed");
    let closed = |place: &Place| place.info().is_closed();
    assert!(!closed(&quiet) && closed(&many[0]) && !closed(&many[1]) && !closed(&newcomer));
}

#[test]
fn a_drain_closes_what_is_opening_and_waits_for_open_calls() {
    let connections = connections(8, 8);
    let opening = connections.admit(peer(1)).expect("a place");
    let open = connections.admit(peer(1)).expect("a place");
    open.mark_open();
    let call = OpenCall::on(open.info());
    connections.drain();
    assert!(opening.info().is_closed());
    assert!(!open.info().is_closed() && !open.may_close());
    drop(call);
    assert!(open.may_close());
    assert!(connections.admit(peer(2)).is_none());
}

#[tokio::test(start_paused = true)]
async fn the_connection_of_a_peer_that_takes_no_answer_is_closed() {
    let connections = connections(8, 8);
    let places = [1, 2, 3].map(|host| connections.admit(peer(host)).expect("a place"));
    let closed = || places.each_ref().map(|place| place.info().is_closed());
    let [mut stalled, mut quick, _streaming] = places.each_ref().map(|it| OpenCall::on(it.info()));
    stalled.mark_answered(SIZE);
    quick.mark_answered(SIZE);
    drop(quick);
    tokio::time::advance(ANSWER - Duration::from_millis(1)).await;
    connections.close_stalled();
    assert_eq!(closed(), [false; 3]);
    tokio::time::advance(Duration::from_millis(1)).await;
    connections.close_stalled();
    assert_eq!(closed(), [true, false, false]);
}

#[test]
fn the_peer_that_has_not_taken_an_answer_for_longest_makes_room() {
    let connections = connections(8, 8);
    let places = [1, 2].map(|host| connections.admit(peer(host)).expect("a place"));
    let unread = |place: &Place| {
        let mut call = OpenCall::on(place.info());
        call.mark_answered(SIZE);
        call
    };
    let _first = unread(&places[0]);
    let _others: Vec<_> = (1..MOST_ANSWERS).map(|_| unread(&places[1])).collect();
    assert!(!places[0].info().is_closed());
    let _newest = unread(&places[1]);
    assert_eq!([0, 1].map(|n| places[n].info().is_closed()), [true, false]);
}

#[test]
fn a_few_large_answers_count_as_many() {
    let connections = connections(8, 8);
    let places = [1, 2].map(|host| connections.admit(peer(host)).expect("a place"));
    let closed = || places.each_ref().map(|place| place.info().is_closed());
    let mut calls = [0, 0, 1].map(|of: usize| OpenCall::on(places[of].info()));
    calls[0].mark_answered(MOST_ANSWER_BYTES / 2);
    calls[1].mark_answered(MOST_ANSWER_BYTES / 2);
    assert_eq!(closed(), [false, false]);
    calls[2].mark_answered(SIZE);
    assert_eq!(closed(), [true, false]);
    drop(calls);
    assert_eq!(connections.answers.bytes.get(), 0);
}

#[test]
fn peers_are_distinguished_by_address_or_ipv6_network() {
    let ip = |text: &str| network(text.parse().unwrap());
    assert_eq!(ip("2001:db8::1"), ip("2001:db8::2"));
    assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
    assert_eq!(ip("::ffff:10.0.0.1"), ip("10.0.0.1"));
    assert_ne!(ip("10.0.0.1"), ip("10.0.0.2"));
}
