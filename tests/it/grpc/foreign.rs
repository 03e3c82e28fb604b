//! A client that nobody here wrote: Python's grpcio decodes every status with grpcio-status.

use std::path::{Path, PathBuf};
use std::time::Duration;

use eni_gateway::model::{Failure, Reason, State};
use serde_json::Value;
use tokio::process::Command;

use super::fakes::attachment;
use super::gateway::Gateway;

/// The interpreter with the packages of `tests/python/requirements.txt`.
fn python() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let path = std::env::var_os("ENI_GATEWAY_TEST_PYTHON").map_or(here, PathBuf::from);
    assert!(
        path.exists(),
        "{} does not exist: `tests/run` makes it and runs the tests",
        path.display()
    );
    path
}

async fn call(gateway: &Gateway, pairs: &[String]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/attach_statuses.py");
    let output = Command::new(python())
        .arg(script)
        .arg(gateway.address.to_string())
        .args(pairs)
        .env_remove("http_proxy")
        .env_remove("https_proxy")
        .kill_on_drop(true)
        .output()
        .await
        .expect("python runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the script failed (`tests/run` installs what it needs):\n{errors}"
    );
    String::from_utf8(output.stdout)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("one object a line"))
        .collect()
}

#[tokio::test]
async fn python_decodes_every_reason() {
    let gateway = Gateway::start().await;
    super::fakes::put(&gateway.ledger, attachment("i-1", "eni-attached", State::Attached, 7)).await;
    for reason in Reason::ALL {
        let failure = Failure::new(*reason, "why — 原因").ens("Some.Code", "ENS-REQUEST-ID");
        gateway.ens.refuse(failure.retry_after(Duration::from_millis(1500)));
    }
    let refused = (0..Reason::ALL.len()).map(|number| format!("i-1/eni-{number}"));
    let pairs: Vec<String> = refused
        .chain(["i-1/eni-attached".to_owned(), "i-1/{}".to_owned()])
        .collect();
    let statuses = call(&gateway, &pairs).await;
    assert_eq!(statuses.len(), pairs.len());

    for (reason, status) in Reason::ALL.iter().zip(&statuses) {
        let code = serde_json::to_value(reason.code()).expect("a name");
        assert_eq!(
            (&status["code"], &status["reason"]),
            (&code, &Value::from(reason.name())),
            "{status:#}"
        );
        assert_eq!(status["message"], "why — 原因");
        let details = &status["details"];
        assert_eq!(details["ErrorInfo"]["domain"], "eni-gateway");
        assert_eq!(details["ErrorInfo"]["metadata"]["ensCode"], "Some.Code");
        assert_eq!(details["RequestInfo"]["request_id"], "ENS-REQUEST-ID");
        assert_eq!(details["RetryInfo"]["retry_delay"], "1.500s");
        assert_eq!(status["trailers"]["grpc-retry-pushback-ms"], "1500");
        assert!(
            details["Help"]["links"][0]["url"]
                .as_str()
                .is_some_and(|url| url.starts_with("docs/errors.md#"))
        );
    }
    let [.., attached, bad] = statuses.as_slice() else {
        panic!("more than two")
    };
    assert_eq!(
        (&attached["code"], &attached["attachment"]["state"]),
        (&"OK".into(), &"STATE_ATTACHED".into())
    );
    assert_eq!(
        bad["details"]["BadRequest"]["field_violations"][0]["field"], "network_interface_id",
        "{bad:#}"
    );
}
