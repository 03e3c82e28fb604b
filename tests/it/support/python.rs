//! Clients that nobody here wrote, in Python.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

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

/// Attaches `INSTANCE/ENI` after `INSTANCE/ENI`; each status as grpcio-status decodes it.
pub(crate) async fn attach_statuses(address: &str, pairs: &[String]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/attach_statuses.py");
    let output = Command::new(python())
        .arg(script)
        .arg(address)
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
