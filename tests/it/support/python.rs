//! An independent gRPC client: Python's grpcio, with messages generated from the proto.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The interpreter with the packages of `tests/python/requirements.txt`.
pub(crate) fn python() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let path = std::env::var_os("ENI_GATEWAY_TEST_PYTHON").map_or(here, PathBuf::from);
    assert!(
        path.exists(),
        "{} does not exist: `tests/run` makes it and runs the tests",
        path.display()
    );
    path
}

/// A running client; ends when it is dropped.
pub(crate) struct PythonClient {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl PythonClient {
    pub(crate) fn start() -> Self {
        let mut process = Command::new(python())
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/gateway_client.py"))
            .env_remove("http_proxy")
            .env_remove("https_proxy")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("python runs");
        Self {
            input: process.stdin.take().expect("it is piped"),
            output: BufReader::new(process.stdout.take().expect("it is piped")).lines(),
            _process: process,
        }
    }

    /// Makes these calls concurrently. Returns their results in the order of the calls.
    pub(crate) async fn call(&mut self, calls: &[Value]) -> Vec<Value> {
        let line = Value::from(calls).to_string() + "\n";
        self.input.write_all(line.as_bytes()).await.expect("it reads");
        let answer = self.output.next_line().await.expect("text");
        let answer = answer
            .expect("the client failed (`tests/run` installs what it needs); see its error output");
        serde_json::from_str(&answer).expect("a list")
    }

    /// Makes one call.
    pub(crate) async fn call_one(&mut self, call: Value) -> Value {
        self.call(&[call]).await.remove(0)
    }
}

/// A call of an RPC at `HOST:PORT`, with a deadline of a minute.
pub(crate) fn call(target: &str, rpc: &str, request: Value) -> Value {
    json!({ "target": target, "rpc": rpc, "request": request })
}

/// An attach.
pub(crate) fn attach(target: &str, instance: &str, eni: &str) -> Value {
    call(
        target,
        "AttachNetworkInterface",
        json!({ "instance_id": instance, "network_interface_id": eni }),
    )
}

/// Sets a deadline in seconds that both sides keep.
pub(crate) fn within(seconds: f64, mut call: Value) -> Value {
    call["timeout"] = seconds.into();
    call
}

/// Sets a deadline in seconds that only the gateway keeps. On a busy machine the client's timer may
/// be first, and hide the gateway's answer.
pub(crate) fn within_at_gateway(seconds: f64, mut call: Value) -> Value {
    call["gateway_timeout"] = seconds.into();
    call
}

/// A watch that the client ends after this many attached ENIs.
pub(crate) fn until_attached(enis: usize, mut watch: Value) -> Value {
    watch["until_attached"] = enis.into();
    watch
}
