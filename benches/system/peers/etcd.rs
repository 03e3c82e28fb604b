//! etcd's watch: what a stream costs there, and how fast a change reaches all of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use futures_util::StreamExt;
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tonic::Streaming;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::find;
use crate::Result;
use crate::args::{Args, STREAMS_A_CONNECTION};
use crate::process::{PATIENCE, Process, free_address, until};
use crate::stats::{figure, percentile};

const KEY: &[u8] = b"watched";
/// About as many bytes as an attachment takes.
const VALUE: [u8; 200] = [b'x'; 200];

/// As many streams as the gateway is measured with, all opened at once, on a server of its own.
pub(super) async fn run(args: &Args) -> Result<BTreeMap<String, f64>> {
    let (listen, directory) = (free_address(), tempfile::TempDir::new()?);
    let etcd = start(listen, &directory)?;
    let put_over = until("etcd", PATIENCE, async || {
        let channel = connect(listen).await?;
        put(channel.clone()).await?;
        Ok(channel)
    })
    .await
    .map_err(|error| format!("{error}\n{}", etcd.log()))?;

    let (streams, before) = (args.streams(), etcd.resident()?);
    let mut channels = Vec::new();
    for _ in 0..streams.div_ceil(STREAMS_A_CONNECTION) {
        channels.push(connect(listen).await?);
    }
    let (seen, mut arrivals) = mpsc::unbounded_channel();
    let (began, mut watchers) = (Instant::now(), JoinSet::new());
    for channel in channels.iter().cycle().take(streams).cloned() {
        let seen = seen.clone();
        watchers.spawn(async move {
            let mut stream = watch(channel).await?;
            // The first message says that the watch was created.
            while stream.message().await?.is_some() {
                seen.send(Instant::now())?;
            }
            Ok::<_, crate::Error>(())
        });
    }
    let opened = arrived(&mut arrivals, streams, began).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let bytes = etcd.resident()?.saturating_sub(before) as f64 / streams as f64;

    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..args.changes() {
        let began = Instant::now();
        put(put_over.clone()).await?;
        let latencies = arrived(&mut arrivals, streams, began).await?;
        p50.push(percentile(&latencies, 0.5).as_secs_f64() * 1e3);
        p99.push(percentile(&latencies, 0.99).as_secs_f64() * 1e3);
    }
    Ok(BTreeMap::from([
        ("streams".to_owned(), streams as f64),
        ("open after ms".to_owned(), percentile(&opened, 1.0).as_secs_f64() * 1e3),
        ("bytes a stream".to_owned(), bytes),
        ("a change to all, p50 ms".to_owned(), figure(p50.into_iter()).median),
        ("a change to all, p99 ms".to_owned(), figure(p99.into_iter()).median),
    ]))
}

/// How long each of the next messages took, sorted.
async fn arrived(
    arrivals: &mut mpsc::UnboundedReceiver<Instant>,
    count: usize,
    began: Instant,
) -> Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(count);
    while latencies.len() < count {
        let at = timeout(PATIENCE, arrivals.recv()).await;
        let at = at.map_err(|_| format!("only {} of {count} messages arrived", latencies.len()))?;
        latencies.push(at.ok_or("all streams have ended")? - began);
    }
    latencies.sort_unstable();
    Ok(latencies)
}

fn start(listen: SocketAddr, directory: &tempfile::TempDir) -> Result<Process> {
    let (client, peer) = (format!("http://{listen}"), format!("http://{}", free_address()));
    let mut command = Command::new(find("ETCD", "etcd")?);
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args([
        "--initial-cluster",
        &format!("default={peer}"),
        "--log-level",
        "error",
        "--data-dir",
    ]);
    Process::start(command.arg(directory.path()))
}

async fn connect(listen: SocketAddr) -> Result<Channel> {
    Ok(Endpoint::from_shared(format!("http://{listen}"))?.connect().await?)
}

async fn put(channel: Channel) -> Result<()> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let request = tonic::Request::new(Put { key: KEY.to_vec(), value: VALUE.to_vec() });
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
    grpc.unary(request, path, ProstCodec::<Put, Done>::default()).await?;
    Ok(())
}

async fn watch(channel: Channel) -> Result<Streaming<Done>> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let create = Watch { create: Some(Create { key: KEY.to_vec() }) };
    // The watch ends when its requests do.
    let requests = futures_util::stream::iter([create]).chain(futures_util::stream::pending());
    let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
    let request = tonic::Request::new(requests);
    let response = grpc.streaming(request, path, ProstCodec::<Watch, Done>::default()).await?;
    Ok(response.into_inner())
}

/// `etcdserverpb.PutRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Put {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `etcdserverpb.WatchRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Watch {
    #[prost(message, optional, tag = "1")]
    create: Option<Create>,
}

/// `etcdserverpb.WatchCreateRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Create {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

/// Any response, of which nothing is read.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Done {}
