//! Load: so many calls in flight, or so many calls a second.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Result;
use crate::side::Client;

/// Time limit for the calls of a round that are still in flight at its end.
const LATE: Duration = Duration::from_secs(60);

/// What a call is about.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) eni: String,
    pub(crate) instance: String,
}

impl Target {
    pub(crate) fn new(eni: String, instance: String) -> Self {
        Self { eni, instance }
    }
}

/// What came of a round's calls.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// From the first call to the last answer.
    pub(crate) elapsed: Duration,
    /// How long each answered call took.
    pub(crate) latencies: Vec<Duration>,
    /// Why calls failed.
    pub(crate) failures: Vec<String>,
}

impl Calls {
    fn add(&mut self, latency: Duration, answer: Result<()>) {
        match answer {
            Ok(()) => self.latencies.push(latency),
            Err(error) => self.failures.push(error.to_string()),
        }
    }
}

/// Keeps `in_flight` calls in flight over all connections, until `limit` has passed or no targets
/// are left.
pub(crate) async fn closed<F>(
    clients: &[Client],
    in_flight: usize,
    targets: Vec<Target>,
    limit: Duration,
    call: impl Fn(Client, Target) -> F + Clone + Send + 'static,
) -> Result<Calls>
where
    F: Future<Output = Result<()>> + Send,
{
    let (targets, next) = (Arc::new(targets), Arc::new(AtomicUsize::new(0)));
    let (began, mut callers) = (Instant::now(), JoinSet::new());
    for client in clients.iter().cycle().take(in_flight) {
        let (client, targets, next, call) =
            (client.clone(), targets.clone(), next.clone(), call.clone());
        callers.spawn(async move {
            let mut calls = Calls::default();
            while began.elapsed() < limit {
                let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    break;
                };
                let sent = Instant::now();
                let answer = call(client.clone(), target.clone()).await;
                calls.add(sent.elapsed(), answer);
            }
            calls
        });
    }
    let mut all = Calls::default();
    while let Some(calls) = callers.join_next().await {
        let calls = calls?;
        all.latencies.extend(calls.latencies);
        all.failures.extend(calls.failures);
    }
    all.elapsed = began.elapsed();
    Ok(all)
}

/// Makes one call for each target, `in_flight` at a time. An error if one fails.
pub(crate) async fn each<F>(
    clients: &[Client],
    in_flight: usize,
    targets: Vec<Target>,
    call: impl Fn(Client, Target) -> F + Clone + Send + 'static,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send,
{
    let calls = closed(clients, in_flight, targets, Duration::MAX, call).await?;
    match calls.failures.first() {
        None => Ok(()),
        Some(failure) => Err(format!("{} calls failed: {failure}", calls.failures.len()).into()),
    }
}

/// Makes one call for each target at a fixed rate, whether or not earlier ones are answered. A
/// call's time counts from the moment at which it was due, so that a late start is not left out.
pub(crate) async fn open<F>(
    clients: &[Client],
    per_second: u32,
    targets: Vec<Target>,
    call: impl Fn(Client, Target) -> F + Send + 'static,
) -> Result<Calls>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (clients, runtime, began) = (clients.to_vec(), Handle::current(), Instant::now());
    // A thread sleeps to within a twentieth of a millisecond, the runtime's timer only to within
    // one.
    let pacing = tokio::task::spawn_blocking(move || {
        let mut calls = JoinSet::new();
        for (number, (target, client)) in
            targets.into_iter().zip(clients.iter().cycle().cloned()).enumerate()
        {
            let due = began + Duration::from_secs_f64(number as f64 / f64::from(per_second));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let call = call(client, target);
            calls.spawn_on(async move { (call.await, due.elapsed()) }, &runtime);
        }
        calls
    });
    let mut calls = pacing.await?;
    let mut all = Calls::default();
    let collected = tokio::time::timeout(LATE, async {
        while let Some(answered) = calls.join_next().await {
            let (answer, latency) = answered?;
            all.add(latency, answer);
        }
        Ok::<_, tokio::task::JoinError>(())
    });
    collected.await.map_err(|_| "calls were not answered in time")??;
    all.elapsed = began.elapsed();
    Ok(all)
}
