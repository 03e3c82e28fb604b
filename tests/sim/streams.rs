//! The loop of a watcher over one stream.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use eni_gateway::model::random;
use tokio::time::timeout;
use tonic::{Response, Status, Streaming};

use crate::callers::reason;
use crate::run::Simulation;

/// A stream that is silent for so long is dead: three heartbeats.
const SILENCE: Duration = Duration::from_secs(45);

/// Opens a stream and passes its messages on, until it ends or the watcher leaves. One that follows
/// must not end well. Before all is calm some leave.
pub(crate) async fn run<T>(
    simulation: &Arc<Simulation>,
    who: &str,
    follow: bool,
    open: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    mut take: impl FnMut(T),
) {
    let patience = if !simulation.conditions().calm && random::fraction() < 0.3 {
        Duration::from_millis(random::between(0..30_000))
    } else {
        Duration::MAX
    };
    let watching = async {
        let mut stream = match timeout(SILENCE, open).await {
            Ok(Ok(stream)) => stream.into_inner(),
            Ok(Err(status)) => return reason(&status).0,
            Err(_) => return "silence".to_owned(),
        };
        loop {
            let message = tokio::select! {
                biased;
                () = simulation.over() => return "all is over".to_owned(),
                message = timeout(SILENCE, stream.message()) => message,
            };
            match message {
                Ok(Ok(Some(message))) => take(message),
                Ok(Ok(None)) => {
                    if follow {
                        let what = format!("{who}: a stream that follows ended well");
                        simulation.checks.violation(simulation, "W1", what);
                    }
                    return "ended".to_owned();
                }
                Ok(Err(status)) => return reason(&status).0,
                Err(_) => return "silence".to_owned(),
            }
        }
    };
    let end = timeout(patience, watching).await.unwrap_or_else(|_| "left".to_owned());
    simulation.history.note(format_args!("{who}: {end}"));
}
