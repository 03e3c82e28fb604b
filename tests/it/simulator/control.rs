//! The control endpoints, as tests in other processes use them.

use serde_json::{Value, json};

use super::caller::{Caller, plain};
use super::start;

#[tokio::test]
async fn another_process_can_do_all_that_a_test_needs() {
    let simulator = start().await;
    let address = simulator.address();
    let caller = Caller::new(address);
    let get =
        async |path: &str| plain(address, "GET", &format!("/_simulator/{path}"), "").await.json();
    let post = async |path: &str, body: Value| {
        plain(address, "POST", &format!("/_simulator/{path}"), &body.to_string()).await
    };

    post("faults", json!([{ "eni": "eni-0002", "effect": { "kind": "mask" } }])).await;
    assert_eq!(get("faults").await.as_array().unwrap().len(), 1);
    assert_eq!(
        caller.attach("i-stopped-1", "eni-0002").await.unwrap().code().1,
        "ens.interface.error"
    );
    post("faults", json!({ "effect": { "kind": "drop_before" }, "times": 9 })).await;
    plain(address, "DELETE", "/_simulator/faults", "").await;
    assert_eq!(get("faults").await, json!([]));

    post("external", json!({ "eni": "eni-0003", "instance": "i-stopped-1" })).await;
    assert_eq!(get("journal").await["instances"]["i-stopped-1"]["max_occupied"], 2);
    post("external", json!({ "eni": "eni-0003" })).await;
    assert_eq!(caller.status("eni-0003").await, "Available");

    post("power", json!({ "instance": "i-stopped-1", "status": "Running" })).await;
    assert_eq!(
        caller.attach("i-stopped-1", "eni-0004").await.unwrap().code().1,
        "InvalidOperation.InvalidEnsStatus"
    );

    assert_eq!(post("rules", json!({ "lag_by_id": "1h" })).await.json()["lag_by_id"], "1h");
    assert_eq!(get("world").await["rules"]["attach_time"], "50ms", "what is not named stays");

    post("reset", json!(null)).await;
    let world = get("world").await;
    assert_eq!(world["rules"]["lag_by_id"], "0s");
    assert_eq!(get("journal").await["calls"], json!([]));

    post("keys", json!([{ "id": "new", "secret": "new-secret" }])).await;
    assert_eq!(
        caller.attach("i-stopped-1", "eni-0001").await.unwrap().code().1,
        "InvalidAccessKeyId.NotFound"
    );
    let new = Caller { key: "new", secret: "new-secret", ..Caller::new(address) };
    assert_eq!(new.attach("i-stopped-1", "eni-0001").await.unwrap().code().1, "ok");
    post("reset", json!(null)).await;
    assert_eq!(caller.attach("i-stopped-1", "eni-0001").await.unwrap().code().1, "ok");
}

#[tokio::test]
async fn what_it_does_not_understand_it_says() {
    let simulator = start().await;
    for (path, body, part) in [
        ("faults", r#"{"effect": {"kind": "explode"}}"#, "explode"),
        ("external", r#"{"eni": "eni-nowhere"}"#, "does not exist"),
        ("power", r#"{"instance": "i-nowhere", "status": "Running"}"#, "not found"),
        ("rules", r#"{"lag": "1s"}"#, "lag"),
        ("rules", "[]", "expected a map"),
        ("faults", r#"{"effect": {"kind": "mask"}, "times": 0}"#, "would never apply"),
        ("faults", "{}", "needs delay"),
        ("faults", "not json", "expected"),
        ("faults", r#"{"delay": "500years", "delay_answer": "500years"}"#, "is above 365 days"),
        (
            "faults",
            r#"{"effect": {"kind": "apply_late", "after": "18446744073709551615s"}}"#,
            "365",
        ),
        ("rules", r#"{"attach_time": "1s..18446744073709551615s"}"#, "is above 365 days"),
        ("rules", r#"{"max_page_size": 0}"#, "at least one row"),
        ("external", r#"{"eni": "eni-0001", "status": "Inuse"}"#, "unknown status"),
        ("power", r#"{"instance": "i-stopped-1", "status": "Runing"}"#, "unknown status"),
        ("keys", "[]", "every call would be refused"),
        ("keys", r#"[{"id": "a", "secret": ""}]"#, "empty id or secret"),
        ("keys", r#"[{"id": "a", "secret": "b"}, {"id": "a", "secret": "c"}]"#, "the same id"),
    ] {
        let answer = plain(simulator.address(), "POST", &format!("/_simulator/{path}"), body).await;
        assert_eq!(answer.status, 422, "{path}: {answer:?}");
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(part), "{answer:?}");
    }
}

#[tokio::test]
async fn it_lists_itself() {
    let simulator = start().await;
    let index = plain(simulator.address(), "GET", "/_simulator/", "").await;
    assert_eq!(index.status, 200);
    assert!(index.body.contains("/_simulator/journal"));
    let unknown = plain(simulator.address(), "GET", "/_simulator/journals", "").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.json()["error"].as_str().unwrap().contains("no such endpoint"), "{unknown:?}");
    let other = plain(simulator.address(), "GET", "/_simulator/reset", "").await;
    assert_eq!(other.status, 405);
    assert!(other.json()["error"].as_str().unwrap().contains("other methods"), "{other:?}");
}
