//! Split brain: the primary and one gateway are cut off from Redis' replicas, its sentinels and the
//! other gateway. The sentinels promote a replica, so for a while there are two primaries, each
//! with a gateway.

use std::time::Duration;

use eni_gateway::simulator::Action;
use futures_util::future::join_all;

use crate::support::gateway::{
    Replica, Stage, attach, eni, eventually, reason, try_attach, within,
};
use crate::support::link::{Link, Mode};
use crate::support::redis::sentinels::Watched;

const ATTACH: Action = Action::AttachNetworkInterface;
const LIMIT: usize = 10;

/// The replicas end first: their logs go with the stage.
struct Split {
    /// On the side of the old primary.
    cut_off: Replica,
    other: Replica,
    /// Its way to the sentinels.
    links: Vec<Link>,
    stage: Stage,
    watched: Watched,
    old: usize,
}

impl Split {
    /// Two gateways over one primary, with this many ENIs on the instance.
    async fn before(settings: &[(&str, &str)], attached: usize) -> Self {
        let watched = Watched::start().await;
        watched.tell_apart().await;
        let stage = Stage::over_many(watched.url(), &["i-1"], 30).await;
        let mut links = Vec::new();
        for sentinel in &watched.sentinels {
            links.push(Link::to(sentinel.port()).await);
        }
        let url = Watched::url_at(links.iter().map(Link::port));
        let cut_off = stage.replica(&[settings, &[("LEDGER__URL", &url)]].concat()).await;
        let other = stage.replica(settings).await;
        let clients = [cut_off.client().await, other.client().await];
        for number in 1..=attached {
            try_attach(&clients[number % 2], attach("i-1", &eni(number))).await.unwrap();
        }
        let old = watched.which().await;
        Self { cut_off, other, links, stage, watched, old }
    }

    /// From now on there are two sides.
    async fn begin(&self) {
        self.links.iter().for_each(|link| link.set(Mode::Cut));
        self.watched.isolate(self.old).await;
        self.watched.until_another_than(self.old).await;
        let role = self.watched.servers[self.old].info("replication", "role").await;
        assert_eq!(role.as_deref(), Some("master"), "the old one knows of nothing");
    }

    async fn end(&self) {
        self.watched.join(self.old).await;
        self.links.iter().for_each(|link| link.set(Mode::Open));
    }

    fn sent(&self) -> u64 {
        self.stage.ens.journal().calls_of(ATTACH)
    }
}

/// OK or the reason.
async fn outcome(replica: &Replica, number: usize, deadline: Duration) -> String {
    let answer =
        try_attach(&replica.client().await, within(deadline, attach("i-1", &eni(number)))).await;
    answer.as_ref().map_or_else(reason, |_| "OK".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_replicas_that_are_waited_for_only_the_side_of_the_replicas_sends() {
    let split = Split::before(&[("LEDGER__SYNC_REPLICAS", "1")], LIMIT - 2).await;
    split.begin().await;
    let sent = split.sent();
    // All at once on the side of the old primary: there is room, and nothing is sent.
    let answers =
        join_all((11..=16).map(|number| outcome(&split.cut_off, number, Duration::from_secs(3))))
            .await;
    assert!(!answers.contains(&"OK".to_owned()), "{answers:?}");
    assert_eq!(split.sent(), sent, "nothing was sent");

    // Both sides at once.
    let (cut_off, other) = tokio::join!(
        join_all((11..=16).map(|number| outcome(&split.cut_off, number, Duration::from_secs(5)))),
        join_all((21..=26).map(|number| outcome(&split.other, number, Duration::from_secs(120)))),
    );
    assert!(!cut_off.contains(&"OK".to_owned()), "{cut_off:?}");
    assert_eq!(other.iter().filter(|answer| *answer == "OK").count(), 2, "{other:?}");
    assert_eq!(split.sent(), sent + 2);

    split.end().await;
    eventually("the one that was cut off does not come back", async || {
        outcome(&split.cut_off, 11, Duration::from_secs(5)).await == "ENI_LIMIT_EXCEEDED"
    })
    .await;
    assert_eq!(split.stage.ens.journal().instance("i-1").max_occupied, LIMIT);
}

/// What the documentation warns of: were this not so, the test above would prove nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_them_the_side_of_the_old_primary_continues() {
    // Its connection to the old primary is all that the one that is cut off has. Lost, as after
    // calls that time out, it would stay lost.
    let patient = [("LEDGER__TIMEOUT", "8s"), ("LEDGER__LEASE", "25s")];
    let split = Split::before(&patient, 1).await;
    split.begin().await;
    // The other one finds the new primary within five seconds, and holds back. The limit is safe
    // until then.
    for number in 21.. {
        let answer = outcome(&split.other, number, Duration::from_secs(5)).await;
        match answer.as_str() {
            "OK" => tokio::time::sleep(Duration::from_secs(1)).await,
            "COORDINATION_RECOVERING" => break,
            other => panic!("{other}"),
        }
    }
    assert_eq!(outcome(&split.cut_off, 11, Duration::from_secs(60)).await, "OK");
}
