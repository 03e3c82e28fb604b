//! Subscribes to the change notifications of other replicas, over a connection of its own: a
//! subscription on the calls' connection would end with it unnoticed. Notifications only make
//! things faster. A component that must know reads the record.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisResult, Value, cmd};
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::ledger::ChangeNotifier;
use crate::ledger::keys::PartitionId;
use crate::ledger::redis::errors::{describe, is_refusal};
use crate::ledger::redis::shared::Shared;

use super::assignment::Assignment;
use super::backoff::Backoff;

/// How often a silent connection is tried.
const PING: Duration = Duration::from_secs(5);

/// Passes on the change notifications of one server's partitions.
#[derive(Debug)]
pub(super) struct ChangeSubscriber {
    shared: Arc<Shared>,
    assignment: Assignment,
    subscribed: AtomicBool,
    /// Set once the server refused sharded channels: some managed proxies do.
    plain: AtomicBool,
    /// Notified when a subscription ended: the calls' connection may have ended with it.
    ended: Arc<Notify>,
}

impl ChangeSubscriber {
    /// It notifies `ended` when a subscription ended.
    pub(super) fn new((shared, assignment): (Arc<Shared>, Assignment), ended: Arc<Notify>) -> Self {
        Self {
            shared,
            assignment,
            subscribed: AtomicBool::new(false),
            plain: AtomicBool::new(false),
            ended,
        }
    }

    /// The command by which a commit publishes a change.
    pub(super) fn publish_command(&self) -> &'static str {
        if self.plain.load(Ordering::Relaxed) { "PUBLISH" } else { "SPUBLISH" }
    }

    /// Warnings for operators.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.plain.load(Ordering::Relaxed) {
            warnings.push(
                "the server refuses sharded pub/sub: change notifications use plain pub/sub"
                    .to_owned(),
            );
        }
        if !self.subscribed.load(Ordering::Relaxed) {
            warnings.push(
                "change notifications are not received: watchers see changes when records are read again"
                    .to_owned(),
            );
        }
        warnings
    }

    /// Subscribes again whenever a subscription ends, wherever the calls go.
    pub(super) async fn run(&self) -> Infallible {
        let mut backoff = Backoff::new();
        loop {
            if let Err(error) = self.subscribe_once(&mut backoff).await {
                debug!(error = describe(&error), "not subscribed to change notices");
            }
            if self.subscribed.swap(false, Ordering::Relaxed) {
                self.ended.notify_one();
            }
            backoff.pause().await;
        }
    }

    /// Passes on notifications until the connection ends, or the address or the partitions change.
    async fn subscribe_once(&self, backoff: &mut Backoff) -> RedisResult<()> {
        let mut assigned = self.assignment.subscribe();
        // The sender lives as long as `self`.
        let found = assigned.wait_for(|current| current.address.is_some()).await;
        let found = found.map(|current| (*current).clone()).ok();
        let Some((current, Some(server))) = found.map(|current| (current.clone(), current.address))
        else {
            return Ok(());
        };

        let ended = Arc::new(Notify::new());
        let (changes, end) = (self.shared.changes.clone(), ended.clone());
        let config = self.shared.dialer.config().set_push_sender(move |push: PushInfo| {
            match push.kind {
                PushKind::SMessage | PushKind::Message => pass_on(&push.data, &changes),
                // A cluster sends the latter also when a slot moves: subscribe again.
                PushKind::Disconnection | PushKind::SUnsubscribe => end.notify_one(),
                _ => {}
            }
            Ok::<(), Infallible>(())
        });
        let mut connection = self.shared.dialer.listen(&server, config).await?;
        self.subscribe(&current.partitions, &connection).await?;
        self.subscribed.store(true, Ordering::Relaxed);
        backoff.reset();
        // Notifications of the time before are lost.
        self.shared.changes.notify_all();
        let reassigned = async { assigned.wait_for(|now| *now != current).await.map(drop) };
        tokio::pin!(reassigned);
        loop {
            tokio::select! {
                biased;
                () = ended.notified() => return Ok(()),
                _ = &mut reassigned => return Ok(()),
                () = tokio::time::sleep(PING) => cmd("PING").query_async::<()>(&mut connection).await?,
            }
        }
    }

    async fn subscribe(
        &self,
        held: &BTreeSet<PartitionId>,
        connection: &MultiplexedConnection,
    ) -> RedisResult<()> {
        if !self.plain.load(Ordering::Relaxed) {
            match self.subscribe_by("SSUBSCRIBE", held, connection).await {
                Err(error) if is_refusal(&error) => {
                    let error = describe(&error);
                    warn!(error, "sharded pub/sub is refused: using plain pub/sub");
                    self.plain.store(true, Ordering::Relaxed);
                }
                done => return done,
            }
        }
        self.subscribe_by("SUBSCRIBE", held, connection).await
    }

    /// One command for each channel: in a cluster they are in different slots.
    async fn subscribe_by(
        &self,
        command: &str,
        held: &BTreeSet<PartitionId>,
        connection: &MultiplexedConnection,
    ) -> RedisResult<()> {
        let all = held.iter().map(|&partition| {
            let mut connection = connection.clone();
            async move {
                let channel = self.shared.keys.channel(partition);
                cmd(command).arg(channel).query_async::<Value>(&mut connection).await
            }
        });
        try_join_all(all).await.map(drop)
    }
}

/// A message is the channel's name and the instance's.
fn pass_on(data: &[Value], changes: &ChangeNotifier) {
    if let Some(Value::BulkString(payload)) = data.get(1)
        && let Ok(instance) = std::str::from_utf8(payload)
    {
        changes.notify_text(instance);
    }
}
