//! `DetachNetworkInterface`. It names only the ENI, which gives the instance.

use serde_json::Value;
use tokio::time::Instant;

use super::{EniKind, EniStatus, Params, Placement, Refusal, STOPPED, World, accepted};

impl World {
    pub(super) fn detach_call(&mut self, params: &Params, now: Instant) -> Result<Value, Refusal> {
        let id = params.required("NetworkInterfaceId")?;
        let instance = self.may_detach(id)?;
        let duration = self.rules.detach_time.draw(&mut self.rng);
        let detaching = Placement::on(EniStatus::Detaching, instance);
        self.move_through(id, (detaching, now), Placement::default(), duration);
        Ok(accepted())
    }

    /// The instance that the ENI may be detached from.
    fn may_detach(&self, id: &str) -> Result<String, Refusal> {
        let eni = self.enis.get(id).ok_or(Refusal::ENI_NOT_FOUND)?;
        let placement = eni.placement();
        let instance =
            placement.instance.as_ref().and_then(|instance| self.instances.get(instance));
        if instance.is_some_and(|instance| !instance.permitted) {
            return Err(Refusal::NO_PERMISSION);
        }
        if eni.spec.service_managed {
            return Err(Refusal::ENI_SERVICE_MANAGED);
        }
        if eni.spec.kind == EniKind::Primary {
            return Err(Refusal::ENI_TYPE);
        }
        match instance {
            Some(instance) if placement.status == EniStatus::InUse => {
                if instance.status == STOPPED {
                    Ok(instance.id.clone())
                } else {
                    Err(Refusal::ENS_STATUS)
                }
            }
            _ => Err(Refusal::ENI_STATUS),
        }
    }
}
