//! Watches behind real proxies whose replica dies. Each proxy reports that in its own way.

use std::process::{Child, Command, Stdio};

use eni_gateway::grpc::proto::attachment::State;
use rstest::rstest;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::ChildStdout;

use super::eni_gateway;
use crate::support::gateway::{Stage, attach, eventually, try_attach};
use crate::support::redis::free_port;

/// A proxy of its own, from its configuration with the ports filled in.
struct Proxy {
    port: u16,
    process: Child,
    _directory: TempDir,
}

impl Proxy {
    async fn start(program: &str, replica: u16) -> Self {
        let (port, directory) = (free_port(), TempDir::new().unwrap());
        let path = directory.path();
        let here = path.display();
        let (text, arguments) = match program {
            "nginx" => (
                format!(
                    "daemon off; master_process off; pid {here}/pid; events {{}}
                    http {{
                        access_log off;
                        client_body_temp_path {here}/a; proxy_temp_path {here}/b;
                        fastcgi_temp_path {here}/c; uwsgi_temp_path {here}/d;
                        scgi_temp_path {here}/e;
                        server {{
                            listen 127.0.0.1:{port} http2;
                            location / {{
                                grpc_pass grpc://127.0.0.1:{replica};
                                grpc_read_timeout 1h;
                            }}
                        }}
                    }}"
                ),
                vec!["-p".to_owned(), here.to_string(), "-e".to_owned(), "stderr".to_owned()],
            ),
            _ => (
                format!(
                    "defaults\n  mode http\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
                     frontend callers\n  bind 127.0.0.1:{port} proto h2\n  default_backend replicas\n\
                     backend replicas\n  server one 127.0.0.1:{replica} proto h2\n"
                ),
                Vec::new(),
            ),
        };
        let file = path.join("proxy.conf");
        std::fs::write(&file, text).unwrap();
        let option = if program == "nginx" { "-c" } else { "-f" };
        let process = Command::new(program)
            .args(arguments)
            .arg(option)
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} (Debian: nginx-light, haproxy): {error}"));
        let listens = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        eventually("the proxy does not listen", listens).await;
        Self { port, process, _directory: directory }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads until this ENI is shown as attached.
async fn shows(lines: &mut Lines<BufReader<ChildStdout>>, eni: &str) {
    let shown = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the watch has ended");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["networkInterfaceId"] == eni && line["state"] == State::Attached.as_str_name() {
                break;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(100), shown).await.expect("never shown");
}

#[rstest]
#[case("nginx")]
#[case("haproxy")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_through_the_death_of_a_replica_behind(#[case] program: &str) {
    let stage = Stage::new(&["i-1"], 2).await;
    let port = free_port();
    let settings = [("WATCH__HEARTBEAT", "1s")];
    let mut replica = stage.spawn_on(port, &settings);
    replica.ready().await;
    let proxy = Proxy::start(program, port).await;
    let endpoint = format!("http://127.0.0.1:{}", proxy.port);
    let mut watch =
        eni_gateway(&["watch", "i-1", "--follow", "-o", "json", "--endpoint", &endpoint])
            .spawn()
            .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    try_attach(&replica.client().await, attach("i-1", "eni-0001")).await.unwrap();
    shows(&mut lines, "eni-0001").await;

    replica.kill();
    drop(replica);
    let replica = stage.spawn_on(port, &settings);
    replica.ready().await;
    try_attach(&replica.client().await, attach("i-1", "eni-0002")).await.unwrap();
    shows(&mut lines, "eni-0002").await;
    watch.kill().await.unwrap();
}
