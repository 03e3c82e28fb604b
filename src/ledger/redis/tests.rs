//! A fake Redis for the unit tests of this module. A function answers each command.

use std::sync::{Arc, Mutex};

use redis::aio::MultiplexedConnection;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::settings::{RedisSettings, ServerAddr, Servers};
use super::shared::Shared;

/// The fake's reply to one command.
pub(super) enum Answer {
    Ok,
    Text(String),
    Texts(Vec<String>),
    Int(i64),
    Error(&'static str),
    /// Bytes of the protocol.
    Raw(String),
    /// No reply. The connection stays open.
    Silence,
    /// Closes the connection.
    HangUp,
}

impl Answer {
    pub(super) fn texts(texts: &[&str]) -> Self {
        Self::Texts(texts.iter().map(ToString::to_string).collect())
    }

    fn encoded(self) -> Option<String> {
        let text = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        Some(match self {
            Self::Ok => "+OK\r\n".to_owned(),
            Self::Text(answer) => text(&answer),
            Self::Texts(all) => {
                format!("*{}\r\n", all.len()) + &all.iter().map(|one| text(one)).collect::<String>()
            }
            Self::Int(number) => format!(":{number}\r\n"),
            Self::Error(error) => format!("-{error}\r\n"),
            Self::Raw(bytes) => bytes,
            Self::Silence => String::new(),
            Self::HangUp => return None,
        })
    }
}

type Respond = dyn Fn(&[&str]) -> Answer + Send + Sync;

/// A server that stops when this value is dropped.
pub(super) struct FakeServer {
    pub(super) address: ServerAddr,
    commands: Arc<Mutex<Vec<String>>>,
    _accepting: AbortOnDropHandle<()>,
}

impl FakeServer {
    /// A server that answers by `respond`, except for the driver's own greetings.
    pub(super) async fn start(respond: impl Fn(&[&str]) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address =
            ServerAddr::Tcp("127.0.0.1".to_owned(), listener.local_addr().unwrap().port());
        let commands: Arc<Mutex<Vec<String>>> = Arc::default();
        let (respond, seen): (Arc<Respond>, _) = (Arc::new(respond), commands.clone());
        let accepting = TaskTracker::new().spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(stream, respond.clone(), seen.clone()));
            }
        });
        Self { address, commands, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Number of times a command was received.
    pub(super) fn count(&self, command: &str) -> usize {
        let commands = self.commands.lock().unwrap();
        commands.iter().filter(|seen| *seen == command).count()
    }

    /// The shared state of a node of this server, with these settings changed.
    pub(super) fn shared(&self, change: impl FnOnce(&mut RedisSettings)) -> Arc<Shared> {
        let mut settings = RedisSettings::new(Servers::One(self.address.clone()));
        change(&mut settings);
        Arc::new(Shared::new(settings).unwrap())
    }

    pub(super) async fn connect(&self) -> MultiplexedConnection {
        self.shared(|_| {}).dialer.connect(&self.address).await.unwrap()
    }
}

async fn serve(
    stream: TcpStream,
    respond: Arc<Respond>,
    seen: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let command = read_command(&mut stream).await?;
        seen.lock().unwrap().push(command[0].clone());
        let parts: Vec<&str> = command.iter().map(String::as_str).collect();
        let answer = match parts[0] {
            "CLIENT" | "HELLO" => Answer::Ok,
            _ => respond(&parts),
        };
        stream.write_all(answer.encoded()?.as_bytes()).await.ok()?;
    }
}

async fn read_command(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    for _ in 0..read_length(stream).await? {
        let mut bytes = vec![0; read_length(stream).await? + 2];
        stream.read_exact(&mut bytes).await.ok()?;
        bytes.truncate(bytes.len() - 2);
        parts.push(String::from_utf8(bytes).ok()?);
    }
    Some(parts)
}

/// The number in `*3` or `$5`.
async fn read_length(stream: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim().parse().ok()
}
