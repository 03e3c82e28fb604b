//! The counter of the rate limiter: `take.lua` keeps the buckets, and each call brings the rates.

use std::time::Duration;

use crate::ledger::LedgerError;
use crate::rate_limit::{PROBE_PERMIT, PROBE_RETRY, family, micros};
use crate::rate_limit::{RateClass, RateLimitDecision, RateLimitRequest, Waits};
use redis::ScriptInvocation;

use super::node::{Node, RedisOperation};

impl Node {
    fn lanes<'a, 'b>(
        &self,
        script: &'a mut ScriptInvocation<'b>,
        class: RateClass,
    ) -> &'a mut ScriptInvocation<'b> {
        for lane in self.shared.settings.rates.lanes(class) {
            script.arg(lane.name).arg(lane.interval).arg(lane.burst);
        }
        script
    }

    pub(super) async fn take(
        &self,
        request: RateLimitRequest,
    ) -> Result<RateLimitDecision, LedgerError> {
        let mut script = self.shared.scripts.take.key(self.shared.keys.budget());
        match request {
            RateLimitRequest::Trip(class, pause) => {
                script.arg("trip").arg(family(class)).arg(micros(pause))
            }
            RateLimitRequest::Close(class) => script.arg("close").arg(family(class)),
            RateLimitRequest::Take(class, waits) => {
                let rates = &self.shared.settings.rates;
                script.arg("take").arg(family(class));
                script.arg(micros(PROBE_PERMIT)).arg(micros(PROBE_RETRY));
                script.arg(rates.chunk(class)).arg(u8::from(rates.is_ordered(class)));
                // A caller that does not wait has waited no time, and cannot.
                let (since, most) = waits.map_or((0, -1), |Waits { since, most }| {
                    (micros(since), i64::try_from(micros(most)).unwrap_or(i64::MAX))
                });
                script.arg(since).arg(most);
                self.lanes(&mut script, class)
            }
            RateLimitRequest::GiveBack { class, probe } => {
                script.arg(if probe { "give-probe" } else { "give" }).arg(family(class));
                self.lanes(&mut script, class)
            }
        };
        let wait: i64 = self
            .connection
            .call(RedisOperation::Take, |mut connection| async move {
                script.invoke_async(&mut connection).await
            })
            .await?;
        Ok(match u64::try_from(wait) {
            Ok(0) => RateLimitDecision::Granted,
            Ok(wait) => RateLimitDecision::Wait(Duration::from_micros(wait)),
            Err(_) if wait == -1 => RateLimitDecision::Probe,
            Err(_) => RateLimitDecision::Chunk(u32::try_from(-1 - wait).unwrap_or(u32::MAX)),
        })
    }
}
