//! Many callers, two replicas, one instance: the limit holds, and every answer is true.

use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::simulator::{Action, EniStatus, Placement};
use futures_util::future::join_all;

use crate::support::gateway::{Stage, attach, eni, get, reason, try_attach, watch, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_callers_over_two_replicas_fill_an_instance_to_exactly_ten() {
    let stage = Stage::new(&["i-1"], 12).await;
    let replicas = [stage.replica(&[]).await, stage.replica(&[]).await];
    let clients = [replicas[0].client().await, replicas[1].client().await];
    let calls = (1..=12).map(|n| try_attach(&clients[n % 2], attach("i-1", &eni(n))));
    let answers = join_all(calls).await;

    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!(refused.len(), 2);
    for failure in refused {
        assert_eq!(
            (failure.0.code(), reason(failure).as_str()),
            (tonic::Code::ResourceExhausted, "ENI_LIMIT_EXCEEDED")
        );
        let metadata = &failure.1.error_info().unwrap().metadata;
        let number = |key: &str| metadata[key].parse::<usize>().unwrap();
        assert_eq!((number("limit"), number("attached") + number("inFlight")), (10, 10));
        assert!(failure.1.retry_info().is_some());
    }
    // The other replica's watcher sees its end, too.
    for (n, answer) in (1..=12).zip(&answers).filter(|(_, answer)| answer.is_ok()) {
        let seen = watch(&clients[(n + 1) % 2], "i-1", &eni(n), 0).await.unwrap();
        let last = seen.last().unwrap();
        assert_eq!((last.state(), &last.uid), (State::Attached, &answer.as_ref().unwrap().uid));
        assert!(seen.is_sorted_by_key(|attachment| attachment.revision));
        let states: Vec<State> = last.transitions.iter().map(|t| t.state()).collect();
        assert_eq!(states, [State::Pending, State::Attaching, State::Attached]);
    }
    let journal = stage.ens.journal();
    let counts = journal.instance("i-1");
    assert_eq!((counts.applied, counts.max_occupied, counts.attach_calls), (10, 10, 10));
    assert_eq!(counts.max_attach_processing, 1, "never two Attach calls for the instance at once");
    let describes =
        journal.calls.iter().filter(|call| call.instance.is_some() && call.enis.is_empty()).count();
    // One serves as many as are quick enough: on a slow machine each caller needs its own.
    assert!(describes <= 12, "{describes} describes of the instance for twelve callers");

    // To repeat an attach sends nothing; the same request id replays, and stays with its ENI.
    let (n, first) = (1..=12).zip(&answers).find(|(_, answer)| answer.is_ok()).unwrap();
    let again = try_attach(&clients[0], attach("i-1", &eni(n))).await.unwrap();
    assert_eq!(again.uid, first.as_ref().unwrap().uid);
    assert_eq!(stage.ens.journal().instance("i-1").attach_calls, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_instances_fill_at_once_each_to_its_limit() {
    const INSTANCES: usize = 12;
    const CALLERS: usize = 12;
    let names: Vec<String> = (0..INSTANCES).map(|n| format!("i-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let stage = Stage::new(&names, INSTANCES * CALLERS).await;
    let replicas = [stage.replica(&[]).await, stage.replica(&[]).await, stage.replica(&[]).await];
    let mut clients = Vec::new();
    for replica in &replicas {
        clients.push(replica.client().await);
    }
    let (stage, clients, names) = (&stage, &clients, &names);
    let calls = (0..INSTANCES * CALLERS).map(|n| async move {
        // Twice, from two replicas: the second one joins.
        let (instance, eni) = (names[n % INSTANCES], eni(n + 1));
        let (one, two) = (&clients[n % 3], &clients[(n + 1) % 3]);
        let request = || within(Duration::from_secs(120), attach(instance, &eni));
        tokio::join!(try_attach(one, request()), try_attach(two, request()))
    });
    let mut attached = 0;
    for answers in join_all(calls).await {
        match answers {
            (Ok(one), Ok(two)) => {
                assert_eq!(one.uid, two.uid);
                attached += 1;
            }
            (Err(one), Err(two)) => {
                assert_eq!([reason(&one), reason(&two)], ["ENI_LIMIT_EXCEEDED"; 2])
            }
            differ => panic!("{differ:?}"),
        }
    }
    assert_eq!(attached, 10 * INSTANCES);
    let journal = stage.ens.journal();
    for name in names {
        let counts = journal.instance(name);
        let counted = (counts.attach_calls, counts.max_occupied, counts.max_attach_processing);
        assert_eq!(counted, (10, 10, 1), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_id_replays_on_another_replica_and_stays_with_its_eni() {
    let stage = Stage::new(&["i-1"], 2).await;
    let replicas = [stage.replica(&[]).await, stage.replica(&[]).await];
    let clients = [replicas[0].client().await, replicas[1].client().await];
    let request = |eni: &str| {
        let mut request = attach("i-1", eni);
        request.request_id = "6ad1b2f4-6bb4-4f5b-8f4d-2f6d2a1b7c11".to_owned();
        request
    };
    let first = try_attach(&clients[0], request("eni-0001")).await.unwrap();
    let second = try_attach(&clients[1], request("eni-0001")).await.unwrap();
    assert_eq!((&first.uid, &first.ens_request_id), (&second.uid, &second.ens_request_id));
    assert_eq!(stage.ens.journal().instance("i-1").attach_calls, 1);
    let other = try_attach(&clients[1], request("eni-0002")).await.unwrap_err();
    assert_eq!(
        (other.0.code(), reason(&other).as_str()),
        (tonic::Code::InvalidArgument, "REQUEST_ID_REUSED")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_put_there_counts_and_the_primary_only_if_configured() {
    for (count_primary, free) in [("false", 1), ("true", 0)] {
        let stage = Stage::new(&["i-1"], 6).await;
        stage.ens.world(|world, now| {
            for (n, status) in
                [(1, EniStatus::InUse), (2, EniStatus::Attaching), (3, EniStatus::Detaching)]
            {
                world.force(&eni(n), Placement::on(status, "i-1"), now).unwrap();
            }
        });
        let settings = [("LIMIT__ENIS_PER_INSTANCE", "4"), ("LIMIT__COUNT_PRIMARY", count_primary)];
        let replica = stage.replica(&settings).await;
        let client = replica.client().await;
        // A describe need not show yet what was changed just now: longer than the lag of this
        // world, however much longer.
        tokio::time::sleep(Duration::from_millis(150)).await;
        let answers = join_all((4..=6).map(|n| try_attach(&client, attach("i-1", &eni(n))))).await;
        assert_eq!(
            answers.iter().filter(|answer| answer.is_ok()).count(),
            free,
            "count_primary = {count_primary}"
        );
        assert_eq!(stage.ens.journal().calls_of(Action::AttachNetworkInterface), free as u64);
        // What others attached is shown too.
        assert_eq!(get(&client, "i-1", "eni-0001").await.unwrap().state(), State::Attached);
        assert_eq!(get(&client, "i-1", "eni-0003").await.unwrap().state(), State::Detaching);
    }
}

/// As in a rolling change of the limit, in either direction: no replica need stop, and no instance
/// goes past either limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_replicas_have_different_limits_the_smaller_one_is_in_force_for_all() {
    let stage = Stage::new(&["i-1"], 20).await;
    let ten = stage.replica(&[]).await;
    let four = stage.replica(&[("LIMIT__ENIS_PER_INSTANCE", "4")]).await;
    let clients = [ten.client().await, four.client().await];
    let calls = (1..=12).map(|number| {
        let call = within(Duration::from_secs(60), attach("i-1", &eni(number)));
        let client = &clients[number % 2];
        async move {
            try_attach(client, call)
                .await
                .map_or_else(|refused| reason(&refused), |_| "OK".to_owned())
        }
    });
    let answers = join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| *answer == "OK").count(), 4, "{answers:?}");
    assert_eq!(stage.ens.journal().instance("i-1").max_occupied, 4);
    let (status, page) = ten.admin("/readyz").await.unwrap();
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("limit=4") && page.contains("limit=10"), "{page}");
}
