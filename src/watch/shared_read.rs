//! One read of a record for all calls that wait for it. Many calls for one instance cost hardly
//! more than two, and the calls of others do not queue behind them.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use crate::ledger::{LedgerError, Snapshot};

/// The reads of one record.
#[derive(Debug, Default)]
pub(super) struct SharedRead {
    /// Number of reads that have begun.
    begun: AtomicU64,
    /// The latest read that ended, with its number. Locked during a read.
    latest: Mutex<Option<(u64, Result<Snapshot, LedgerError>)>>,
}

impl SharedRead {
    /// The record as of this call or later: the result of a read that another call began
    /// meanwhile, or of `read`. Safe to cancel: the next call reads.
    pub(super) async fn get(
        &self,
        read: impl Future<Output = Result<Snapshot, LedgerError>>,
    ) -> Result<Snapshot, LedgerError> {
        let before = self.begun.load(Ordering::SeqCst);
        let mut latest = self.latest.lock().await;
        if let Some((number, result)) = &*latest
            && *number > before
        {
            return result.clone();
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let result = read.await;
        *latest = Some((number, result.clone()));
        result
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;
    use tokio::time::{sleep, timeout};

    use super::*;

    const TAKES: Duration = Duration::from_secs(1);

    /// Reads that return how many had begun.
    #[derive(Default)]
    struct Reads {
        shared: SharedRead,
        made: AtomicU64,
    }

    impl Reads {
        async fn get(&self) -> u64 {
            let read = async {
                let version = self.made.fetch_add(1, Ordering::SeqCst) + 1;
                sleep(TAKES).await;
                Ok(Snapshot { version, ..Snapshot::default() })
            };
            self.shared.get(read).await.expect("no read fails").version
        }

        async fn get_after(&self, pause: Duration) -> u64 {
            sleep(pause).await;
            self.get().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_share_a_read_that_began_after_them() {
        let reads = Reads::default();
        let (first, later) =
            tokio::join!(reads.get(), join_all((0..100).map(|_| reads.get_after(TAKES / 2))));
        assert_eq!(first, 1);
        assert_eq!(later, [2; 100], "none has the result of a read that began before it");
        assert_eq!(reads.get().await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_leaves_takes_no_result_with_it() {
        let reads = Reads::default();
        let (left, other) =
            tokio::join!(timeout(TAKES / 2, reads.get()), reads.get_after(TAKES / 4));
        assert!(left.is_err());
        assert_eq!(other, 2);
    }
}
