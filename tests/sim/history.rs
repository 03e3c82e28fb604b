//! The history: one line for each event, with its virtual time.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

/// How many lines a failure shows.
const SHOWN: usize = 40;

/// Every event of one run.
pub(crate) struct History {
    began: Instant,
    lines: Mutex<Vec<(Duration, String)>>,
}

/// A history that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account(pub(crate) Vec<(Duration, String)>);

impl History {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), lines: Mutex::default() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn note(&self, event: impl fmt::Display) {
        self.lines.lock().unwrap().push((self.elapsed(), event.to_string()));
    }

    pub(crate) fn end(&self) -> Account {
        Account(self.lines.lock().unwrap().clone())
    }
}

impl Account {
    /// The same for the same history only.
    pub(crate) fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for (at, line) in &self.0 {
            hash.update(at.as_nanos().to_be_bytes());
            hash.update(line);
        }
        hex::encode(&hash.finalize()[..8])
    }

    /// The last lines up to and at `until`.
    pub(crate) fn tail(&self, until: Duration) -> String {
        let end = self.0.partition_point(|(at, _)| *at <= until);
        text(&self.0[end.saturating_sub(SHOWN)..end])
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text(&self.0))
    }
}

fn text(lines: &[(Duration, String)]) -> String {
    let line = |(at, line): &(Duration, String)| format!("{:>10.3}s  {line}\n", at.as_secs_f64());
    lines.iter().map(line).collect()
}
