//! Pages of all instances.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use eni_gateway::ledger::keys::PartitionId;
use eni_gateway::model::{Code, Failure, InstanceId, Reason, State};
use eni_gateway::watch::fleet::{
    AttachmentFilter, FleetFilter, FleetPage, FleetScope, ListPosition,
};
use tokio::time::Instant;

use super::fleet::{all, attached, attaching, filter, put};
use super::{Replica, by, eni, instance};
use crate::support::ens::FakeEns;
use crate::support::ledger::Faulty;

async fn page(replica: &Replica, from: ListPosition, size: usize) -> FleetPage {
    let deadline = Instant::now() + Duration::from_secs(30);
    replica.hub.list_fleet(&filter(), from, size, deadline).await.unwrap()
}

fn names(page: &FleetPage) -> Vec<&str> {
    page.attachments.iter().map(|it| it.instance.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn pages_hold_the_fleet_once_and_only_what_is_wanted() {
    let replica = Replica::new();
    let mut expected = BTreeSet::new();
    for number in 0..120 {
        for name in ["eni-1", "eni-2"] {
            put(&replica.store, &format!("i-{number}"), name, attached()).await;
            expected.insert(format!("i-{number}/{name}"));
        }
    }
    put(&replica.store, "i-5", "eni-3", attaching()).await;
    let pages = async |filter: &FleetFilter, size: usize| {
        let (mut shown, mut from) = (Vec::new(), ListPosition::default());
        loop {
            let deadline = Instant::now() + Duration::from_secs(30);
            let page = replica.hub.list_fleet(filter, from, size, deadline).await.unwrap();
            assert!(page.attachments.len() <= size);
            shown.extend(page.attachments.iter().map(|it| format!("{}/{}", it.instance, it.eni)));
            match page.next {
                Some(next) => from = next,
                None => return shown,
            }
        }
    };
    for size in [1, 7, 100] {
        let shown = pages(&filter(), size).await;
        assert_eq!(shown.len(), 241, "none is repeated, size {size}");
        assert!(expected.is_subset(&shown.into_iter().collect()));
    }
    let in_flight = AttachmentFilter { states: vec![State::Attaching], stuck: false };
    let some = FleetFilter { attachments: in_flight, ..filter() };
    assert_eq!(pages(&some, 50).await, ["i-5/eni-3"]);
    let may_show = Arc::new(|instance: &InstanceId| instance.as_str() == "i-3");
    assert_eq!(pages(&FleetFilter { may_show, ..filter() }, 50).await.len(), 2);
    let stuck = AttachmentFilter { states: Vec::new(), stuck: true };
    assert!(pages(&FleetFilter { attachments: stuck, ..filter() }, 50).await.is_empty());
    assert_eq!(replica.ens.calls().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_lost_writes_is_listed_from_its_start() {
    let replica = Replica::new();
    let mut of_one = (0..)
        .map(|number| instance(&format!("i-{number}")))
        .filter(|id| PartitionId::of(id) == PartitionId::of(&instance("i-1")));
    let [a, b] = std::array::from_fn(|_| of_one.next().unwrap());
    for name in [&a, &b] {
        put(&replica.store, name.as_str(), "eni-1", attached()).await;
        put(&replica.store, name.as_str(), "eni-2", attached()).await;
    }
    for size in 1..=2 {
        let first = page(&replica, ListPosition::default(), size).await;
        assert_eq!(names(&first), vec![a.as_str(); size]);
        // The clock of the next primary is behind. So every new position is before the page's.
        replica.store.restart_at(replica.store.clock() - Duration::from_secs(3_600 * size as u64));
        for name in [&a, &b] {
            put(&replica.store, name.as_str(), "eni-1", attached()).await;
            put(&replica.store, name.as_str(), "eni-2", attached()).await;
        }
        let (mut seen, mut from) = (BTreeSet::new(), first.next);
        while let Some(next) = from {
            let rest = page(&replica, next, size).await;
            seen.extend(rest.attachments.iter().map(|it| (it.instance.clone(), it.eni.clone())));
            from = rest.next;
        }
        let all = [&a, &b].map(|id| ["eni-1", "eni-2"].map(|name| (id.clone(), eni(name))));
        assert_eq!(seen, all.into_iter().flatten().collect(), "pages of {size}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_is_left_out_and_the_page_says_so() {
    let replica = Replica::new();
    for number in 0..20 {
        put(&replica.store, &format!("i-{number}"), "eni-1", attached()).await;
    }
    let whole = page(&replica, ListPosition::default(), 100).await;
    assert_eq!((whole.attachments.len(), whole.incomplete), (20, false));
    replica.store.spoil(&instance("i-7"), true);
    let rest = page(&replica, ListPosition::default(), 100).await;
    assert_eq!((rest.attachments.len(), rest.incomplete), (19, true));
    assert!(!names(&rest).contains(&"i-7"));
    let hidden = FleetFilter { may_show: Arc::new(|id| id.as_str() != "i-7"), ..filter() };
    let deadline = Instant::now() + Duration::from_secs(30);
    let hidden = replica.hub.list_fleet(&hidden, ListPosition::default(), 100, deadline).await;
    assert!(!hidden.unwrap().incomplete, "it is out of scope");
}

#[tokio::test(start_paused = true)]
async fn a_slow_last_page_has_no_next_one() {
    let store = Faulty::new();
    put(&store, "i-1", "eni-1", attached()).await;
    let slow = Replica::of(store.taking(Duration::from_secs(1)), FakeEns::default());
    let (mut shown, mut from, mut pages) = (0, ListPosition::default(), 0);
    loop {
        // Each page has the time for one partition.
        let deadline = Instant::now() + Duration::from_secs(3);
        let page = slow.hub.list_fleet(&filter(), from, 9, deadline).await.unwrap();
        (shown, pages) = (shown + page.attachments.len(), pages + 1);
        let Some(next) = page.next else { break };
        from = ListPosition::read(&next.to_bytes()).expect("each token is read back");
    }
    assert_eq!(shown, 1);
    assert!(pages > 1, "{pages}");
}

#[tokio::test(start_paused = true)]
async fn reads_end_at_the_deadline_with_one_reason() {
    let slow = Replica::of(Faulty::new().taking(Duration::from_secs(60)), FakeEns::default());
    let deadline = Instant::now() + Duration::from_secs(1);
    let (hub, call, id) = (&slow.hub, by(deadline), instance("i-1"));
    let scope = FleetScope { until: Some(deadline), ..all(None) };
    let failures: [Failure; 4] = [
        hub.watch_fleet(scope).await.map(drop).unwrap_err(),
        hub.list_fleet(&filter(), ListPosition::default(), 9, deadline).await.unwrap_err(),
        hub.list(&id, call).await.unwrap_err(),
        hub.get(&id, &eni("eni-1"), call).await.unwrap_err(),
    ];
    for failure in failures {
        let end = (failure.reason, failure.code);
        assert_eq!(end, (Reason::CoordinationUnavailable, Code::DeadlineExceeded), "{failure}");
    }
    assert!(Instant::now() <= deadline + Duration::from_millis(10), "{:?}", deadline.elapsed());
}
