//! `AttachNetworkInterface`: ENS's checks, one documented code each, then the asynchronous attach.

use serde_json::Value;
use tokio::time::Instant;

use super::{Course, EniKind, EniStatus, Params, Placement, Refusal, STOPPED, World, accepted};

impl World {
    pub(super) fn attach_call(
        &mut self,
        params: &Params,
        course: Course,
        now: Instant,
    ) -> Result<Value, Refusal> {
        let instance = params.required("InstanceId")?;
        let eni = params.required("NetworkInterfaceId")?;
        self.attach(instance, eni, course, now)?;
        Ok(accepted())
    }

    /// Checks, then begins to attach. The slot is used from here on, even if the attach fails
    /// later.
    pub(super) fn attach(
        &mut self,
        instance: &str,
        eni: &str,
        course: Course,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.may_attach(instance, eni)?;
        let duration = match course {
            Course::Takes(duration) => duration,
            Course::Succeeds | Course::Fails => self.rules.attach_time.draw(&mut self.rng),
        };
        let end = match course {
            Course::Fails => Placement::default(),
            Course::Succeeds | Course::Takes(_) => Placement::on(EniStatus::InUse, instance),
        };
        self.journal.record_applied(instance, eni);
        if course == Course::Fails {
            self.journal.record_failed(instance, eni);
        }
        self.move_through(eni, (Placement::on(EniStatus::Attaching, instance), now), end, duration);
        Ok(())
    }

    /// Checks in order: rights, existence, the ENI, the instance, both together, the limit.
    fn may_attach(&self, instance_id: &str, eni_id: &str) -> Result<(), Refusal> {
        let instance = self.instances.get(instance_id).ok_or(Refusal::INSTANCE_NOT_FOUND)?;
        if !instance.permitted {
            return Err(Refusal::NO_PERMISSION);
        }
        let eni = self.enis.get(eni_id).ok_or(Refusal::ENI_NOT_FOUND)?;
        let checks = [
            (eni.spec.service_managed, Refusal::ENI_SERVICE_MANAGED),
            (eni.spec.kind == EniKind::Primary, Refusal::ENI_TYPE),
            (eni.placement().status != EniStatus::Available, Refusal::ENI_STATUS),
            (instance.status != STOPPED, Refusal::ENS_STATUS),
            (!instance.supported, Refusal::INSTANCE_NOT_SUPPORTED),
            (
                instance.network != eni.spec.network || instance.region != eni.spec.region,
                Refusal::NETWORK_MISMATCH,
            ),
            (
                self.rules.enforce_limit && self.occupied(instance_id) >= self.rules.eni_limit,
                Refusal::LIMIT_EXCEEDED,
            ),
        ];
        checks.into_iter().find(|(failed, _)| *failed).map_or(Ok(()), |(_, refusal)| Err(refusal))
    }
}
