//! The official Python SDK with the simulator.

use std::path::Path;

use tokio::process::Command;

use super::start;
use crate::support::python::python;
use eni_gateway::simulator::auth::{DEFAULT_ID, DEFAULT_SECRET};

#[tokio::test(flavor = "multi_thread")]
async fn works_unchanged() {
    let simulator = start().await;
    let output = Command::new(python())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/official_sdk.py"))
        .arg(simulator.address().to_string())
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", DEFAULT_ID)
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", DEFAULT_SECRET)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "if a module is missing, run tests/run:\n{text}");
    // Not skipped by accident.
    assert!(text.contains("OK") && !text.contains("skipped"), "{text}");
    assert_eq!(simulator.journal().applied_to("eni-0001"), 1);
}
