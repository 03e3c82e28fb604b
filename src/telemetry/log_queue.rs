//! Log lines on their way to standard error, and audit lines on theirs.
//!
//! A reader that stops reading must not stop the gateway. So threads of their own
//! write the lines, and a line that finds its queue full is lost and counted. Audit lines have a
//! queue of their own, which is longer: a flood of other lines does not cost any of them.
//!
//! The first line wakes the thread, which waits `PAUSE` for more and writes them together. So a
//! busy gateway neither wakes the thread nor makes a write for each call.

mod buffer;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use crate::names::AUDIT;
use buffer::Buffer;

/// Time that a line waits for others.
const PAUSE: Duration = Duration::from_millis(2);
/// Maximum size of one write of several lines. A pipe takes as much at once, so that the lines of
/// other writers do not come between.
const MOST_AT_ONCE: usize = 4096;

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
    buffer: Arc<OpenBuffer>,
    lost: &'static AtomicU64,
}

/// The sending half of a buffer. The thread ends after its drop.
#[derive(Debug)]
struct OpenBuffer(Arc<Buffer>);

impl Drop for OpenBuffer {
    fn drop(&mut self) {
        self.0.close();
    }
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
        let buffer = Arc::new(Buffer::new(most));
        let queued = buffer.clone();
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(&queued, to, lost))?;
        Ok(Self { buffer: OpenBuffer(buffer).into(), lost })
    }

    /// After the limit the remaining lines end with the process.
    fn flush(&self, until: Instant) {
        self.buffer.0.wait_until_written(until.saturating_duration_since(Instant::now()));
    }
}

/// Writes the queued lines.
fn write(queued: &Buffer, mut to: impl Write, lost: &AtomicU64) {
    let mut lines = Vec::new();
    while queued.wait_for_lines() {
        std::thread::sleep(PAUSE);
        queued.take(&mut lines);
        write_lines(&lines, &mut to, lost);
        queued.mark_written();
    }
}

/// Writes lines, as many at once as a pipe takes. A failure costs the lines of its write, and they
/// are counted.
fn write_lines(mut lines: &[u8], to: &mut impl Write, lost: &AtomicU64) {
    while !lines.is_empty() {
        let first = line_end(lines).unwrap_or(lines.len());
        let head = &lines[..lines.len().min(MOST_AT_ONCE)];
        let several = head.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let (now, rest) = lines.split_at(first.max(several));
        if to.write_all(now).is_err() {
            let count = now.iter().filter(|byte| **byte == b'\n').count();
            lost.fetch_add(count as u64, Ordering::Relaxed);
        }
        lines = rest;
    }
    let _ = to.flush();
}

/// The end of the first line.
fn line_end(lines: &[u8]) -> Option<usize> {
    lines.iter().position(|byte| *byte == b'\n').map(|last| last + 1)
}

impl Write for &LogQueue {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.buffer.0.add(line) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl<'a> MakeWriter<'a> for LogQueues {
    type Writer = &'a LogQueue;

    fn make_writer(&'a self) -> &'a LogQueue {
        &self.log
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> &'a LogQueue {
        if line.target() == AUDIT { &self.audit } else { &self.log }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

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
        let queue = LogQueue::new(4, Stuck(written.clone()), &TEST_LOST).unwrap();
        let reader = written.lock().unwrap();
        for _ in 0..20 {
            (&queue).write_all(b"line\n").unwrap();
        }
        queue.flush(Instant::now() + Duration::from_millis(50));
        drop(reader);
        queue.flush(Instant::now() + Duration::from_secs(60));
        let lines = written.lock().unwrap().len() / 5;
        let lost = TEST_LOST.load(Ordering::Relaxed) as usize;
        // The thread may hold as many beside the queue.
        assert!((4..=8).contains(&lines), "{lines}");
        assert_eq!(lines + lost, 20);
    }

    /// Keeps each write, and refuses those that contain `bad`.
    #[derive(Default)]
    struct Writes(Vec<String>);

    impl Write for Writes {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(lines.to_vec()).expect("whole lines");
            if text.contains("bad") {
                return Err(io::Error::other("no space"));
            }
            self.0.push(text);
            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_together_and_never_cut() {
        let (mut to, lost) = (Writes::default(), AtomicU64::new(0));
        let line = |length: usize| "x".repeat(length - 1) + "\n";
        let lines = [line(4000), line(96), line(1), line(9000), line(4096), line(2)];
        write_lines(lines.concat().as_bytes(), &mut to, &lost);
        let sizes: Vec<usize> = to.0.iter().map(String::len).collect();
        assert_eq!(sizes, [4096, 1, 9000, 4096, 2]);
        write_lines(b"one\nbad\ntwo\n", &mut to, &lost);
        assert_eq!((to.0.len(), lost.into_inner()), (5, 3));
    }
}
