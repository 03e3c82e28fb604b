use super::super::super::tests::{Answer, FakeServer};
use super::*;
use crate::model::InstanceId;

fn push(parts: &[&str]) -> String {
    let texts = parts.iter().map(|part| format!("${}\r\n{part}\r\n", part.len()));
    format!(">{}\r\n{}", parts.len(), texts.collect::<String>())
}

/// Subscribes, and publishes a change of `i-1` at once.
fn subscribed(command: &str, message: &str, channel: &str) -> Answer {
    let subscribed = push(&[command, channel, "1"]);
    Answer::Raw(subscribed + &push(&[message, channel, "i-1"]))
}

struct Rig {
    shared: Arc<Shared>,
    assignment: Assignment,
    ended: Arc<Notify>,
    subscriber: ChangeSubscriber,
}

fn rig(server: &FakeServer) -> Rig {
    let (shared, ended) = (server.shared(|_| {}), Arc::new(Notify::new()));
    let assignment = Assignment::new(PartitionId::all().take(3).collect());
    assignment.set_address(server.address.clone());
    Rig {
        subscriber: ChangeSubscriber::new((shared.clone(), assignment.clone()), ended.clone()),
        shared,
        assignment,
        ended,
    }
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn changes_are_passed_on_until_the_server_is_another_one() {
    let server = FakeServer::start(|command| match command[0] {
        "SSUBSCRIBE" => subscribed("ssubscribe", "smessage", command[1]),
        _ => Answer::Error("ERR unexpected"),
    })
    .await;
    let rig = rig(&server);
    let instance: InstanceId = "i-1".parse().unwrap();
    let mut changes = rig.shared.changes.subscribe(&instance);
    let test = async {
        until(|| rig.subscriber.warnings().is_empty()).await;
        changes.changed().await;
        assert_eq!((server.count("SSUBSCRIBE"), rig.subscriber.publish_command()), (3, "SPUBLISH"));
        rig.assignment.set_partitions(BTreeSet::new());
        rig.ended.notified().await;
        assert!(rig.subscriber.warnings()[0].contains("are not received"));
    };
    tokio::select! {
        _ = rig.subscriber.run() => {}
        () = test => {}
    }
}

#[tokio::test]
async fn a_server_without_sharded_channels_is_subscribed_to_by_plain_ones() {
    let server = FakeServer::start(|command| match command[0] {
        "SUBSCRIBE" => subscribed("subscribe", "message", command[1]),
        _ => Answer::Error("ERR unknown command"),
    })
    .await;
    let rig = rig(&server);
    let test = async {
        until(|| matches!(&rig.subscriber.warnings()[..], [warning] if warning.contains("plain pub/sub"))).await;
        assert_eq!(rig.subscriber.publish_command(), "PUBLISH");
    };
    tokio::select! {
        _ = rig.subscriber.run() => {}
        () = test => {}
    }
}

#[tokio::test]
async fn a_message_names_the_instance_that_changed() {
    let changes = ChangeNotifier::default();
    let mut changed = changes.subscribe(&"i-1".parse().unwrap());
    let message = |instance: &str| {
        ["channel", instance].map(|text| Value::BulkString(text.as_bytes().to_vec()))
    };
    for nonsense in [&[][..], &[Value::Nil], &message("i-2")] {
        pass_on(nonsense, &changes);
    }
    assert!(futures_util::FutureExt::now_or_never(changed.changed()).is_none());
    pass_on(&message("i-1"), &changes);
    changed.changed().await;
}
