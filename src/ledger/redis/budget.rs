//! The account's budget: `take.lua` keeps the books, told the rates by whoever asks.

use std::time::Duration;

use crate::ledger::tokens::{PROBE_PERMIT, PROBE_RETRY, family, micros};
use crate::ledger::{TokenOrder, TokenReply, Unavailable};

use super::node::Node;
use super::node::link::Operation;

impl Node {
    pub(super) async fn take(&self, order: TokenOrder) -> Result<TokenReply, Unavailable> {
        let mut script = self.shared.scripts.take.key(self.shared.keys.budget());
        match order {
            TokenOrder::Trip(bucket, pause) => script.arg("trip").arg(family(bucket)).arg(micros(pause)),
            TokenOrder::Close(bucket) => script.arg("close").arg(family(bucket)),
            TokenOrder::Take(bucket) | TokenOrder::GiveBack { bucket, .. } => {
                let name = match order {
                    TokenOrder::GiveBack { probe: true, .. } => "give-probe",
                    TokenOrder::GiveBack { probe: false, .. } => "give",
                    _ => "take",
                };
                script.arg(name).arg(family(bucket));
                script.arg(micros(PROBE_PERMIT)).arg(micros(PROBE_RETRY));
                script.arg(self.shared.settings.rates.chunk(bucket));
                for lane in self.shared.settings.rates.lanes(bucket) {
                    script.arg(lane.name).arg(lane.interval).arg(lane.burst);
                }
                &mut script
            }
        };
        let wait: i64 = self
            .link
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
