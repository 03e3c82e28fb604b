//! Change notices from other replicas, over a connection of their own: a subscription on the calls' connection would end with it
//! unnoticed. They only make things faster; whoever must know reads the record.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ProtocolVersion, PushInfo, PushKind, RedisResult, Value, cmd};
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::ledger::Hints;
use crate::ledger::keys::{Keys, PartitionId};

use super::backoff::Backoff;
use super::link::{describe, is_refusal};
use super::settings::{InvalidSettings, RedisSettings};

/// How often a silent connection is tried.
const PING: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Notices {
    client: Client,
    config: AsyncConnectionConfig,
    keys: Keys,
    hints: Hints,
    /// Set when the server refused sharded channels: some managed proxies do.
    plain: AtomicBool,
    /// Set while nothing is heard.
    deaf: AtomicBool,
}

impl Notices {
    pub(super) fn new(settings: &RedisSettings, keys: Keys, hints: Hints) -> Result<Self, InvalidSettings> {
        let info = settings.connection_info()?;
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        Ok(Self {
            client: Client::open(info.set_redis_settings(redis)).map_err(|_| InvalidSettings::Url)?,
            config: AsyncConnectionConfig::new()
                .set_connection_timeout(Some(settings.connect_timeout))
                .set_response_timeout(Some(settings.response_timeout)),
            keys,
            hints,
            plain: AtomicBool::new(false),
            deaf: AtomicBool::new(true),
        })
    }

    /// The command by which a commit tells of a change.
    pub(super) fn command(&self) -> &'static str {
        if self.plain.load(Ordering::Relaxed) {
            "PUBLISH"
        } else {
            "SPUBLISH"
        }
    }

    /// What people should know.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.plain.load(Ordering::Relaxed) {
            warnings.push("the server refuses sharded pub/sub: notices of changes go by plain pub/sub".to_owned());
        }
        if self.deaf.load(Ordering::Relaxed) {
            warnings.push("not subscribed to notices of changes: they are seen when records are read again".to_owned());
        }
        warnings
    }

    /// Listens for ever.
    pub(super) async fn run(&self) -> Infallible {
        let mut backoff = Backoff::new();
        loop {
            if let Err(error) = self.listen(&mut backoff).await {
                debug!(error = describe(&error), "not subscribed to change notices");
            }
            self.deaf.store(true, Ordering::Relaxed);
            backoff.pause().await;
        }
    }

    async fn listen(&self, backoff: &mut Backoff) -> RedisResult<()> {
        let ended = Arc::new(Notify::new());
        let (hints, end) = (self.hints.clone(), ended.clone());
        let config = self.config.clone().set_push_sender(move |push: PushInfo| {
            match push.kind {
                PushKind::SMessage | PushKind::Message => pass_on(&push.data, &hints),
                // Also what a cluster sends when a slot moves: subscribe anew.
                PushKind::Disconnection | PushKind::SUnsubscribe => end.notify_one(),
                _ => {}
            }
            Ok::<(), Infallible>(())
        });
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        self.subscribe(&connection).await?;
        self.deaf.store(false, Ordering::Relaxed);
        backoff.reset();
        // What was told in the meantime nobody heard.
        self.hints.notify_all();
        loop {
            tokio::select! {
                () = ended.notified() => return Ok(()),
                () = tokio::time::sleep(PING) => cmd("PING").query_async::<()>(&mut connection).await?,
            }
        }
    }

    async fn subscribe(&self, connection: &MultiplexedConnection) -> RedisResult<()> {
        if !self.plain.load(Ordering::Relaxed) {
            match self.subscribe_by("SSUBSCRIBE", connection).await {
                Err(error) if is_refusal(&error) => {
                    warn!(
                        error = describe(&error),
                        "sharded pub/sub is refused: using plain pub/sub"
                    );
                    self.plain.store(true, Ordering::Relaxed);
                }
                done => return done,
            }
        }
        self.subscribe_by("SUBSCRIBE", connection).await
    }

    /// One command a channel: in a cluster they are in different slots.
    async fn subscribe_by(&self, command: &str, connection: &MultiplexedConnection) -> RedisResult<()> {
        let all = PartitionId::all().map(|partition| {
            let mut connection = connection.clone();
            async move {
                cmd(command)
                    .arg(self.keys.channel(partition))
                    .query_async::<Value>(&mut connection)
                    .await
            }
        });
        try_join_all(all).await.map(drop)
    }
}

/// A message is the channel's name and the instance's.
fn pass_on(data: &[Value], hints: &Hints) {
    if let Some(Value::BulkString(payload)) = data.get(1)
        && let Ok(instance) = std::str::from_utf8(payload)
    {
        hints.notify_text(instance);
    }
}
