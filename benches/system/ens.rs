//! A stand-in for ENS that costs as little as an HTTP server can: no signature is verified, nothing
//! is throttled, and an accepted ENI is in use at once. The floor and the gateway call the same
//! stand-in in the same way.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::Result;

/// An ENI whose id begins so stays `Attaching`.
pub(crate) const SLOW: &str = "eni-slow-";

/// A running stand-in. Dropping it stops it.
pub(crate) struct Ens {
    address: SocketAddr,
    cloud: Arc<Cloud>,
    runtime: Option<Runtime>,
}

/// The account: which ENI is on which instance.
struct Cloud {
    latency: Duration,
    calls: AtomicU64,
    attached: Mutex<Attached>,
}

#[derive(Default)]
struct Attached {
    by_eni: HashMap<String, String>,
    by_instance: HashMap<String, Vec<String>>,
}

impl Ens {
    /// Starts a stand-in that answers each call after `latency`, on a thread of its own.
    pub(crate) async fn start(latency: Duration) -> Result<Self> {
        let cloud =
            Arc::new(Cloud { latency, calls: AtomicU64::default(), attached: Mutex::default() });
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let service = Router::new().route("/", post(answer)).with_state(cloud.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?.into_std()?;
        let address = listener.local_addr()?;
        runtime.spawn(async move {
            axum::serve(nodelay(TcpListener::from_std(listener)?), service).await
        });
        Ok(Self { address, cloud, runtime: Some(runtime) })
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The number of calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.cloud.calls.load(Ordering::Relaxed)
    }
}

impl Drop for Ens {
    fn drop(&mut self) {
        // A runtime must not be waited for inside another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn nodelay(
    listener: TcpListener,
) -> impl axum::serve::Listener<Addr = SocketAddr, Io = tokio::net::TcpStream> {
    use axum::serve::ListenerExt as _;
    // Without it small answers wait for acknowledgements. A connection that is gone fails by
    // itself.
    listener.tap_io(|stream| drop(stream.set_nodelay(true)))
}

async fn answer(
    State(cloud): State<Arc<Cloud>>,
    Query(parameters): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> impl IntoResponse {
    cloud.calls.fetch_add(1, Ordering::Relaxed);
    if !cloud.latency.is_zero() {
        tokio::time::sleep(cloud.latency).await;
    }
    let action = headers.get("x-acs-action").map(|action| action.as_bytes());
    let answer = match action {
        Some(b"AttachNetworkInterface") => cloud.attach(&parameters),
        Some(b"DescribeNetworkInterfaces") => cloud.describe(&parameters),
        _ => json!({ "Code": "UnsupportedAction", "RequestId": "0" }),
    };
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string())
}

impl Cloud {
    fn attach(&self, parameters: &HashMap<String, String>) -> Value {
        let value = |name: &str| parameters.get(name).cloned().unwrap_or_default();
        let (instance, eni) = (value("InstanceId"), value("NetworkInterfaceId"));
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        attached.by_instance.entry(instance.clone()).or_default().push(eni.clone());
        attached.by_eni.insert(eni, instance);
        json!({ "RequestId": "2E3F8E5A-7C1B-5D0E-9B57-0123456789AB" })
    }

    /// One page: no instance here has more ENIs than fit, and neither has a batch.
    fn describe(&self, parameters: &HashMap<String, String>) -> Value {
        let attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        let asked: Vec<&String> = match parameters.get("InstanceId") {
            Some(instance) => attached.by_instance.get(instance).into_iter().flatten().collect(),
            None => parameters
                .iter()
                .filter_map(|(name, id)| name.starts_with("NetworkInterfaceIds.").then_some(id))
                .collect(),
        };
        let rows: Vec<Value> = asked
            .into_iter()
            .map(|eni| {
                let instance = attached.by_eni.get(eni);
                let status = match instance {
                    None => "Available",
                    Some(_) if eni.starts_with(SLOW) => "Attaching",
                    Some(_) => "InUse",
                };
                json!({
                    "NetworkInterfaceId": eni,
                    "Status": status,
                    "Type": "Secondary",
                    "InstanceId": instance,
                })
            })
            .collect();
        json!({
            "RequestId": "2E3F8E5A-7C1B-5D0E-9B57-0123456789AB",
            "TotalCount": rows.len(), "PageNumber": 1, "PageSize": 50,
            "NetworkInterfaceSets": { "NetworkInterfaceSet": rows },
        })
    }
}
