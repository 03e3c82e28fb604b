//! Log lines on their way to standard error, and audit lines on theirs.
//!
//! A reader that stops reading must not stop the gateway. So threads of their own
//! write the lines, and a line that finds its queue full is lost and counted. Audit lines have a
//! queue of their own, which is longer: a flood of other lines does not cost any of them.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use crate::names::AUDIT;

/// Pause before the next try to mark the end of a full queue.
const RETRY: Duration = Duration::from_millis(10);

static LOST: AtomicU64 = AtomicU64::new(0);
static AUDIT_LOST: AtomicU64 = AtomicU64::new(0);

/// The names of the process's queues, each with the number of lines that it lost.
pub(super) fn dropped() -> [(&'static str, u64); 2] {
    [("log", LOST.load(Ordering::Relaxed)), ("audit", AUDIT_LOST.load(Ordering::Relaxed))]
}

/// Writes log lines without ever waiting. Clones share the queues.
#[derive(Debug, Clone)]
pub struct LogQueues {
    log: LogQueue,
    audit: LogQueue,
}

/// One queue of lines.
#[derive(Debug, Clone)]
pub struct LogQueue {
    items: SyncSender<Item>,
    lost: &'static AtomicU64,
}

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    /// Answered when all lines before it are written.
    End(SyncSender<()>),
}

impl LogQueues {
    /// Queues for the lines of this process, of which audit lines go to `audit`.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn new(
        log: impl Write + Send + 'static,
        audit: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        Ok(Self {
            log: LogQueue::new(8192, log, &LOST)?,
            audit: LogQueue::new(65_536, audit, &AUDIT_LOST)?,
        })
    }

    /// The queue of audit lines.
    pub(super) fn audit(&self) -> LogQueue {
        self.audit.clone()
    }

    /// Waits until all lines so far are written, or until `limit` has passed.
    pub async fn flush(self, limit: Duration) {
        let until = Instant::now() + limit;
        for queue in [self.log, self.audit] {
            // A panic in there is no reason to wait longer.
            let _ = tokio::task::spawn_blocking(move || queue.flush(until)).await;
        }
    }
}

impl LogQueue {
    fn new(
        most: usize,
        to: impl Write + Send + 'static,
        lost: &'static AtomicU64,
    ) -> io::Result<Self> {
        let (items, queued) = mpsc::sync_channel(most);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(&queued, to, lost))?;
        Ok(Self { items, lost })
    }

    fn flush(&self, until: Instant) {
        let (written, end) = mpsc::sync_channel(1);
        let left = || until.saturating_duration_since(Instant::now());
        while let Err(TrySendError::Full(_)) = self.items.try_send(Item::End(written.clone())) {
            if left().is_zero() {
                return;
            }
            std::thread::sleep(RETRY.min(left()));
        }
        // After the limit the remaining lines end with the process.
        let _ = end.recv_timeout(left());
    }
}

/// Writes the queued lines. A failure costs a line, and is counted.
fn write(queued: &Receiver<Item>, mut to: impl Write, lost: &AtomicU64) {
    for item in queued {
        match item {
            Item::Line(line) => {
                if to.write_all(&line).is_err() {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
            }
            Item::End(written) => {
                let _ = to.flush();
                let _ = written.try_send(());
            }
        }
    }
}

impl Write for LogQueue {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.items.try_send(Item::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogQueues {
    type Writer = LogQueue;

    fn make_writer(&self) -> LogQueue {
        self.log.clone()
    }

    fn make_writer_for(&self, line: &Metadata<'_>) -> LogQueue {
        if line.target() == AUDIT { self.audit.clone() } else { self.make_writer() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    static TEST_LOST: AtomicU64 = AtomicU64::new(0);

    /// Takes no line until the test lets it.
    struct Stuck(Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_beyond_a_full_queue_are_counted_and_the_others_written_by_the_flush() {
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let mut queue = LogQueue::new(4, Stuck(written.clone()), &TEST_LOST).unwrap();
        let reader = written.lock().unwrap();
        for _ in 0..20 {
            queue.write_all(b"line\n").unwrap();
        }
        queue.flush(Instant::now() + Duration::from_millis(50));
        drop(reader);
        queue.flush(Instant::now() + Duration::from_secs(60));
        let lines = written.lock().unwrap().len() / 5;
        let lost = TEST_LOST.load(Ordering::Relaxed) as usize;
        // The thread holds one line beside the queue, or is yet to take it.
        assert!((4..=5).contains(&lines), "{lines}");
        assert_eq!(lines + lost, 20);
    }
}
