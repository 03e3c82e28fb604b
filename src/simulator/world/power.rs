//! `StopInstance` and `StartInstance`, both asynchronous.

use serde_json::Value;
use tokio::time::Instant;

use super::{Due, Params, Refusal, World, accepted};

impl World {
    /// Moves an instance from one status through another to a third.
    pub(super) fn power(
        &mut self,
        params: &Params,
        from: &str,
        through: &'static str,
        to: &'static str,
        now: Instant,
    ) -> Result<Value, Refusal> {
        let id = params.required("InstanceId")?;
        let instance = self.instances.get_mut(id).ok_or(Refusal::INSTANCE_NOT_FOUND)?;
        if instance.status != from {
            return Err(Refusal::ENS_STATUS);
        }
        through.clone_into(&mut instance.status);
        let duration = self.rules.power_time.draw(&mut self.rng);
        self.plan(now + duration, Due::Power { id: id.to_owned(), from: through, to });
        Ok(accepted())
    }
}
