//! The ENS client against real sockets.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod clock;
mod credentials;
mod describe;
mod faults;
mod refusals;
mod roles;
mod server;
mod sources;
mod spans;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eni_gateway::ens::credentials::{Credentials, Provider};
use eni_gateway::ens::report::CallReport;
use eni_gateway::ens::{Ens, HttpEns, Outcome, Settings};
use eni_gateway::model::{InstanceId, InterfaceId};
use eni_gateway::rate_limit::{
    Permit, RateClass, RateLimitDecision, RateLimitRequest, RateLimiter,
};
use url::Url;

/// A client, its reports, and its requests to the store of the budget.
struct Client {
    ens: HttpEns,
    limiter: RateLimiter,
    calls: Arc<Mutex<Vec<CallReport>>>,
    tokens: Arc<Mutex<Vec<RateLimitRequest>>>,
    /// The counter's next decisions; then it grants everything.
    decisions: Arc<Mutex<VecDeque<RateLimitDecision>>>,
}

/// Timeouts far longer than an answer takes on a busy machine.
fn settings(endpoint: &str) -> Settings {
    Settings {
        endpoint: Url::parse(endpoint).expect("a URL"),
        attempt_timeout: Duration::from_secs(30),
        describe_timeout: Duration::from_secs(30),
        ..Settings::default()
    }
}

/// Timeouts for a test that waits for one to pass, after the request has arrived.
fn impatient(endpoint: &str) -> Settings {
    Settings {
        attempt_timeout: Duration::from_secs(3),
        describe_timeout: Duration::from_secs(3),
        ..settings(endpoint)
    }
}

fn client(endpoint: &str) -> Client {
    client_of(settings(endpoint))
}

fn client_of(settings: Settings) -> Client {
    provider();
    let provider = Provider::fixed(Credentials::new("testAccessKeyId", "testAccessKeySecret"))
        .expect("a client");
    client_with(settings, provider)
}

fn client_with(settings: Settings, provider: Provider) -> Client {
    let (calls, tokens) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<_>>>::default());
    let decisions = Arc::<Mutex<VecDeque<_>>>::default();
    let (asked, next) = (tokens.clone(), decisions.clone());
    let limiter = RateLimiter::new(Arc::new(move |request| {
        asked.lock().unwrap().push(request);
        let decision = next.lock().unwrap().pop_front();
        Box::pin(async move { Ok(decision.unwrap_or(RateLimitDecision::Granted)) })
    }));
    let reports = calls.clone();
    let observer = Arc::new(move |report| reports.lock().unwrap().push(report));
    let ens = HttpEns::new(settings, provider, limiter.clone(), observer).expect("a client");
    Client { ens, limiter, calls, tokens, decisions }
}

impl Client {
    async fn permit(&self, purpose: RateClass) -> Permit {
        let patience = tokio::time::Instant::now() + Duration::from_secs(60);
        self.limiter.permit(purpose, patience).await.expect("a permit")
    }

    async fn attach(&self) -> Outcome {
        let prepared = self.ens.prepare().await.expect("ready");
        let permit = self.permit(RateClass::Attach).await;
        self.ens.attach(&prepared, permit, &instance("i-1"), &eni("eni-1")).await
    }

    fn taken(&self) -> usize {
        self.tokens
            .lock()
            .unwrap()
            .iter()
            .filter(|request| matches!(request, RateLimitRequest::Take(..)))
            .count()
    }
}

fn instance(id: &str) -> InstanceId {
    id.parse().expect("an id")
}

fn eni(id: &str) -> InterfaceId {
    id.parse().expect("an id")
}

/// The process's provider of cryptography; the first test installs it.
fn provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
