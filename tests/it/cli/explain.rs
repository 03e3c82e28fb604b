//! `explain` over the ledger of running gateways.

use serde_json::Value;

use super::run;
use crate::support::gateway::{Stage, attach, eni, try_attach, watch};
use crate::support::redis::Server;

fn of<'a>(statements: &'a [Value], subject: &str) -> &'a Value {
    statements.iter().find(|statement| statement["subject"] == subject).expect(subject)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_explained_while_its_gateway_runs_and_after_it_is_gone() {
    let stage = Stage::new(&["i-1"], 1).await;
    let mut replica = stage.replica(&[]).await;
    let client = replica.client().await;
    try_attach(&client, attach("i-1", &eni(1))).await.unwrap();
    watch(&client, "i-1", &eni(1), 0).await.unwrap();
    replica.kill();
    let url = stage.redis.url();
    let explained = run(&["explain", "i-1", "--ledger-url", &url, "-o", "json"]).await;
    assert_eq!(explained.code, 0, "{explained:?}");
    let statements = explained.json();
    let (slots, attempt) = (of(&statements, "slots"), of(&statements, "attempt"));
    assert_eq!((&slots["facts"]["limit"], &slots["facts"]["inFlight"]), (&10.into(), &0.into()));
    assert_eq!(slots["facts"]["attachedByGateways"], 1);
    assert_eq!(attempt["networkInterfaceId"], eni(1));
    assert_eq!(attempt["facts"]["state"], "ATTACHED");
    assert_eq!(of(&statements, "lock")["facts"]["held"], false);

    let table = run(&["explain", "i-1", &eni(1), "--ledger-url", &url]).await;
    assert_eq!(table.code, 0, "{table:?}");
    let line = table.stdout.lines().find(|line| line.starts_with(&eni(1))).expect("its line");
    assert!(line.contains("ATTACHED since"), "{line}");
    assert!(!table.stdout.contains("slots"), "{}", table.stdout);

    let unknown = run(&["explain", "i-9", "--ledger-url", &url]).await;
    assert_eq!(unknown.code, 0, "{unknown:?}");
    assert!(unknown.stdout.contains("no record of this instance"), "{}", unknown.stdout);
}

#[tokio::test]
async fn what_cannot_be_explained_is_said() {
    let redis = Server::start().await;
    let url = redis.url();
    drop(redis);
    let gone = run(&["explain", "i-1", "--ledger-url", &url]).await;
    assert_eq!((gone.code, gone.stdout.as_str()), (69, ""), "{gone:?}");
    assert!(gone.stderr.contains("what to do"), "{gone:?}");
    let memory = run(&["explain", "i-1", "--ledger-url", "memory://"]).await;
    assert_eq!((memory.code, memory.stdout.as_str()), (64, ""), "{memory:?}");
}
