//! Change notices from other replicas, over a connection of their own: a subscription on the calls' connection would end with it
//! unnoticed. They only make things faster; whoever must know reads the record.

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

use super::Node;
use super::backoff::Backoff;
use super::connection::{describe, is_refusal};

/// How often a silent connection is tried.
const PING: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct ChangeSubscriber {
    /// Set while nothing is heard.
    deaf: AtomicBool,
}

impl ChangeSubscriber {
    pub(super) fn new() -> Self {
        Self {
            deaf: AtomicBool::new(true),
        }
    }
}

impl Node {
    /// The command by which a commit tells of a change.
    pub(super) fn notice_command(&self) -> &'static str {
        if self.shared.plain_notices.load(Ordering::Relaxed) {
            "PUBLISH"
        } else {
            "SPUBLISH"
        }
    }

    /// What people should know.
    pub(super) fn subscription_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.shared.plain_notices.load(Ordering::Relaxed) {
            warnings.push("the server refuses sharded pub/sub: notices of changes go by plain pub/sub".to_owned());
        }
        if self.changes.deaf.load(Ordering::Relaxed) {
            warnings.push("not subscribed to notices of changes: they are seen when records are read again".to_owned());
        }
        warnings
    }

    /// Listens for ever, wherever the calls go.
    pub(super) async fn run_subscriber(&self) -> Infallible {
        let mut backoff = Backoff::new();
        loop {
            if let Err(error) = self.listen(&mut backoff).await {
                debug!(error = describe(&error), "not subscribed to change notices");
            }
            if !self.changes.deaf.swap(true, Ordering::Relaxed) {
                // The connection of the calls, on which nothing may be asked now, may have ended with it.
                self.epoch_check_requested.notify_one();
            }
            backoff.pause().await;
        }
    }

    async fn listen(&self, backoff: &mut Backoff) -> RedisResult<()> {
        let (mut place, mut holds) = (self.address.subscribe(), self.partitions.subscribe());
        // The senders live as long as `self`.
        let found = place
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|place| place.clone());
        let Some(found) = found else { return Ok(()) };
        let partitions = holds.borrow_and_update().clone();

        let ended = Arc::new(Notify::new());
        let (changes, end) = (self.shared.changes.clone(), ended.clone());
        let config = self.shared.dialer.config().set_push_sender(move |push: PushInfo| {
            match push.kind {
                PushKind::SMessage | PushKind::Message => pass_on(&push.data, &changes),
                // Also what a cluster sends when a slot moves: subscribe anew.
                PushKind::Disconnection | PushKind::SUnsubscribe => end.notify_one(),
                _ => {}
            }
            Ok::<(), Infallible>(())
        });
        let mut connection = self.shared.dialer.listen(&found, config).await?;
        self.subscribe(&partitions, &connection).await?;
        self.changes.deaf.store(false, Ordering::Relaxed);
        backoff.reset();
        // What was told in the meantime nobody heard.
        self.shared.changes.notify_all();
        let moved = async { place.wait_for(|place| place.as_ref() != Some(&found)).await.map(drop) };
        let regrouped = async { holds.wait_for(|holds| *holds != partitions).await.map(drop) };
        tokio::pin!(moved, regrouped);
        loop {
            tokio::select! {
                biased;
                () = ended.notified() => return Ok(()),
                _ = &mut moved => return Ok(()),
                _ = &mut regrouped => return Ok(()),
                () = tokio::time::sleep(PING) => cmd("PING").query_async::<()>(&mut connection).await?,
            }
        }
    }

    async fn subscribe(
        &self,
        partitions: &BTreeSet<PartitionId>,
        connection: &MultiplexedConnection,
    ) -> RedisResult<()> {
        let plain = &self.shared.plain_notices;
        if !plain.load(Ordering::Relaxed) {
            match self.subscribe_by("SSUBSCRIBE", partitions, connection).await {
                Err(error) if is_refusal(&error) => {
                    warn!(
                        error = describe(&error),
                        "sharded pub/sub is refused: using plain pub/sub"
                    );
                    plain.store(true, Ordering::Relaxed);
                }
                done => return done,
            }
        }
        self.subscribe_by("SUBSCRIBE", partitions, connection).await
    }

    /// One command a channel: in a cluster they are in different slots.
    async fn subscribe_by(
        &self,
        command: &str,
        partitions: &BTreeSet<PartitionId>,
        connection: &MultiplexedConnection,
    ) -> RedisResult<()> {
        let all = partitions.iter().map(|&partition| {
            let mut connection = connection.clone();
            async move {
                cmd(command)
                    .arg(self.shared.keys.channel(partition))
                    .query_async::<Value>(&mut connection)
                    .await
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
