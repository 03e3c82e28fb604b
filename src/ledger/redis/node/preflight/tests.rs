use super::super::super::tests::{Answer, FakeServer};
use super::*;
use crate::ledger::keys::PartitionId;

const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\n\
                    connected_slaves:0\r\n";

fn found(from: &str, to: &str) -> PreflightResult {
    assert!(GOOD.contains(from));
    evaluate(&GOOD.replace(from, to), &HashMap::new(), 0)
}

#[test]
fn only_a_server_that_keeps_everything_is_fit() {
    assert_eq!(evaluate(GOOD, &HashMap::new(), 0), PreflightResult::default());
    assert!(found("7.0.15", "6.2.14").errors[0].contains("6.2.14"));
    assert_eq!(
        found("7.0.15", "7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2").errors.len(),
        0
    );
    assert!(found("noeviction", "volatile-lru").errors[0].contains("volatile-lru"));
    assert_eq!(evaluate("", &HashMap::new(), 0).errors.len(), 2, "what does not say is not fit");
}

#[test]
fn replicas_that_do_not_hold_writes_back_are_worth_a_warning() {
    assert_eq!(found("slaves:0", "slaves:2").warnings.len(), 1);
    assert_eq!(found("slaves:0", "slaves:2\r\nmin_slaves_good_slaves:2").warnings.len(), 0);
    let info = GOOD.replace("slaves:0", "slaves:2\r\nmin_slaves_good_slaves:2");
    for (write, lag, warnings) in [("2", "10", 0), ("1", "10", 1), ("2", "30", 1)] {
        let limits = [("min-replicas-to-write", write), ("min-replicas-max-lag", lag)];
        let limits = limits.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(evaluate(&info, &limits, 0).warnings.len(), warnings, "{write} {lag}");
    }
}

#[test]
fn replicas_that_are_waited_for_are_all_that_there_are() {
    let warnings = |replicas: usize, wanted: usize| {
        let online =
            "slave0:ip=10.0.0.1,port=6379,state=online,offset=1,lag=0\r\n".repeat(replicas);
        let filled = "slave9:ip=10.0.0.9,port=6379,state=wait_bgsave,offset=0,lag=0\r\n";
        let info = format!("{GOOD}{online}{filled}");
        evaluate(&info, &HashMap::new(), wanted).warnings
    };
    assert_eq!(warnings(2, 2), [""; 0]);
    assert!(warnings(1, 2)[0].contains("nothing is sent"));
    assert!(warnings(3, 2)[0].contains("set it to 3"));
}

/// Managed services hide CONFIG.
#[tokio::test]
async fn a_server_is_inspected_by_info_and_by_a_try_of_its_rights() {
    let missing = Arc::new(Mutex::new(vec!["ZADD".to_owned(), "HSET".to_owned()]));
    let lacks = missing.clone();
    let server = FakeServer::start(move |command| match command[0] {
        "INFO" => Answer::Text(GOOD.to_owned()),
        "EVALSHA" => Answer::Texts(lacks.lock().unwrap().clone()),
        _ => Answer::Error("ERR unknown command"),
    })
    .await;
    let assignment = Assignment::new(PartitionId::all().collect());
    let (preflight, connection) =
        (Preflight::new((server.shared(|_| {}), assignment)), server.connect().await);
    let found = preflight.inspect(&connection).await.unwrap();
    assert!(found.errors.len() == 1 && found.errors[0].contains("ZADD, HSET"), "{found:?}");
    preflight.ensure_rights(&connection).await.unwrap_err();
    preflight.record(found.clone());
    assert_eq!(*preflight.result(), found);

    missing.lock().unwrap().clear();
    preflight.ensure_rights(&connection).await.unwrap();
    assert_eq!(preflight.inspect(&connection).await.unwrap(), PreflightResult::default());
}
