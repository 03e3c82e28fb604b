//! Envoy in front of a bare tonic: what any hop costs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::find;
use crate::Result;
use crate::args::Args;
use crate::cases::{Case, describe};
use crate::load::{self, Target};
use crate::process::{PATIENCE, Process, free_address, until};
use crate::rounds::Rounds;
use crate::side::{self, Client, Program, Side};
use crate::stats::{figure, percentile};

const CONNECTIONS: usize = 4;

/// Calls that do nothing, in rounds with and without Envoy between.
pub(super) async fn run(args: &Args) -> Result<BTreeMap<String, f64>> {
    let program = find("ENVOY", "envoy")?;
    let floor = Side::start(&Program::Floor, 1, Duration::ZERO).await?;
    let (listen, directory) = (free_address(), tempfile::TempDir::new()?);
    let file = directory.path().join("envoy.json");
    std::fs::write(&file, config(listen, floor.replicas[0].address()).to_string())?;
    let mut command = Command::new(program);
    command.arg("-c").arg(file).args(["--disable-hot-restart", "--log-level", "error"]);
    let envoy = Process::start(&mut command)?;
    let through = until("envoy", PATIENCE, async || {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(side::connect(listen).await?);
        }
        describe(clients[0].clone(), Target::new(String::new(), "i-0".to_owned())).await?;
        Ok(clients)
    })
    .await
    .map_err(|error| format!("{error}\n{}", envoy.log()))?;
    let direct = floor.connect(CONNECTIONS).await?;

    let (_, Rounds { count, seconds }) = args.loads(Case::Get);
    let length = Duration::from_secs_f64(seconds);
    let mut figures = BTreeMap::new();
    for calls in [1, 32] {
        let (mut of_direct, mut of_through) = (Vec::new(), Vec::new());
        for _ in 0..count {
            of_direct.push(round(&direct, &floor.replicas[0].process, calls, length).await?);
            of_through.push(round(&through, &envoy, calls, length).await?);
        }
        let median =
            |rounds: &[Round], number: fn(&Round) -> f64| figure(rounds.iter().map(number)).median;
        let mut keep = |what: &str, number: fn(&Round) -> f64| {
            figures.insert(format!("4×{calls}: {what}, direct"), median(&of_direct, number));
            figures
                .insert(format!("4×{calls}: {what}, through Envoy"), median(&of_through, number));
        };
        keep("calls a second", |round| round.per_second);
        keep("p50 µs", |round| round.p50_us);
        keep("CPU µs a call of the process called", |round| round.cpu_us);
    }
    Ok(figures)
}

struct Round {
    per_second: f64,
    p50_us: f64,
    cpu_us: f64,
}

async fn round(
    clients: &[Client],
    process: &Process,
    in_flight: usize,
    length: Duration,
) -> Result<Round> {
    let targets = vec![Target::new(String::new(), "i-0".to_owned()); 200_000];
    let before = process.cpu()?;
    let mut calls = load::closed(clients, in_flight, targets, length, describe).await?;
    let cpu = process.cpu()? - before;
    if let Some(failure) = calls.failures.first() {
        return Err(failure.clone().into());
    }
    calls.latencies.sort_unstable();
    let count = calls.latencies.len() as f64;
    Ok(Round {
        per_second: count / calls.elapsed.as_secs_f64(),
        p50_us: percentile(&calls.latencies, 0.5).as_secs_f64() * 1e6,
        cpu_us: cpu.as_secs_f64() * 1e6 / count,
    })
}

/// A listener and a cluster of one, HTTP/2 on both sides, and nothing else.
fn config(listen: SocketAddr, upstream: SocketAddr) -> serde_json::Value {
    let socket = |address: SocketAddr| {
        let (ip, port) = (address.ip().to_string(), address.port());
        json!({ "socket_address": { "address": ip, "port_value": port } })
    };
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager\
                   .v3.HttpConnectionManager";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let http = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    json!({ "static_resources": {
        "listeners": [{ "address": socket(listen), "filter_chains": [{ "filters": [{
            "name": "http",
            "typed_config": {
                "@type": manager, "stat_prefix": "bench", "codec_type": "HTTP2",
                "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [
                    {
                        "match": { "prefix": "/" },
                        "route": { "cluster": "tonic", "timeout": "0s" },
                    },
                ]}]},
                "http_filters": [{ "name": "router", "typed_config": { "@type": router } }],
            },
        }]}]}],
        "clusters": [{
            "name": "tonic", "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": { (options): {
                "@type": http, "explicit_http_config": { "http2_protocol_options": {} },
            }},
            "load_assignment": { "cluster_name": "tonic", "endpoints": [{ "lb_endpoints": [
                { "endpoint": { "address": socket(upstream) } },
            ]}]},
        }],
    }})
}
