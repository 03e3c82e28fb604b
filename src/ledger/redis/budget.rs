//! The account's budget: `take.lua` keeps the books, told the rates by whoever asks.

use std::time::Duration;

use crate::ledger::tokens::{PROBE_PERMIT, PROBE_RETRY, family, micros};
use crate::ledger::{Bucket, LedgerError, TokenOrder, TokenReply, Waits};
use redis::ScriptInvocation;

use super::node::Node;
use super::node::connection::Operation;

impl Node {
    fn lanes<'a, 'b>(&self, script: &'a mut ScriptInvocation<'b>, bucket: Bucket) -> &'a mut ScriptInvocation<'b> {
        for lane in self.shared.settings.rates.lanes(bucket) {
            script.arg(lane.name).arg(lane.interval).arg(lane.burst);
        }
        script
    }

    pub(super) async fn take(&self, order: TokenOrder) -> Result<TokenReply, LedgerError> {
        let mut script = self.shared.scripts.take.key(self.shared.keys.budget());
        match order {
            TokenOrder::Trip(bucket, pause) => script.arg("trip").arg(family(bucket)).arg(micros(pause)),
            TokenOrder::Close(bucket) => script.arg("close").arg(family(bucket)),
            TokenOrder::Take(bucket, waits) => {
                let rates = &self.shared.settings.rates;
                script.arg("take").arg(family(bucket));
                script.arg(micros(PROBE_PERMIT)).arg(micros(PROBE_RETRY));
                script.arg(rates.chunk(bucket)).arg(u8::from(rates.is_ordered(bucket)));
                // Whoever does not wait has not waited, and cannot.
                let (since, most) = waits.map_or((0, -1), |Waits { since, most }| {
                    (micros(since), i64::try_from(micros(most)).unwrap_or(i64::MAX))
                });
                script.arg(since).arg(most);
                self.lanes(&mut script, bucket)
            }
            TokenOrder::GiveBack { bucket, probe } => {
                script
                    .arg(if probe { "give-probe" } else { "give" })
                    .arg(family(bucket));
                self.lanes(&mut script, bucket)
            }
        };
        let wait: i64 = self
            .connection
            .call(Operation::Take, |mut connection| async move {
                script.invoke_async(&mut connection).await
            })
            .await?;
        Ok(match u64::try_from(wait) {
            Ok(0) => TokenReply::Granted,
            Ok(wait) => TokenReply::Wait(Duration::from_micros(wait)),
            Err(_) if wait == -1 => TokenReply::Probe,
            Err(_) => TokenReply::Chunk(u32::try_from(-1 - wait).unwrap_or(u32::MAX)),
        })
    }
}
