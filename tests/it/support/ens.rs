//! ENS in the test's process: returns the test's rows, and records the calls.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use eni_gateway::ens::credentials::Credentials;
use eni_gateway::ens::{
    DescribeError, EniStatus, Ens, EnsRefusal, InstanceRow, MAX_IDS, MAX_INSTANCES, Outcome,
    Prepared, Row,
};
use eni_gateway::model::{Failure, InstanceId, InterfaceId};
use eni_gateway::rate_limit::{Permit, RateLimiter};
use tokio::sync::Semaphore;

/// A call as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    Attach(InstanceId, InterfaceId),
    Interfaces(Vec<InterfaceId>),
    InterfacesOf(InstanceId),
    Instances(Vec<InstanceId>),
}

/// A cloud of rows. Clones are the same cloud.
#[derive(Clone, Default)]
pub(crate) struct FakeEns {
    world: Arc<Mutex<World>>,
    /// Receives the report of every call, as in production.
    limiter: Option<RateLimiter>,
}

#[derive(Default)]
struct World {
    rows: BTreeMap<InterfaceId, Row>,
    /// Instances that a describe of instances does not show.
    unknown: BTreeSet<InstanceId>,
    /// Whether an unknown instance fails the describe of several.
    fails_unknown: bool,
    calls: Vec<Call>,
    fault: Option<DescribeError>,
    latency: Duration,
    /// The results of attaches, in order. Further ones do not arrive anywhere.
    answers: VecDeque<(Duration, Outcome)>,
    /// Whether every further attach is accepted.
    accepts: bool,
    /// How the preparation of sends fails, one after the other.
    refusals: VecDeque<Failure>,
    /// Where further sends wait for their preparation; `None`: they are prepared.
    waiting: Option<Arc<Semaphore>>,
}

impl FakeEns {
    /// One that prepares no send: each fails by [`FakeEns::refuse`], or waits.
    pub(crate) fn holding() -> Self {
        let ens = Self::default();
        ens.world().waiting = Some(Arc::new(Semaphore::new(0)));
        ens
    }

    /// Fails the next send before it goes out.
    pub(crate) fn refuse(&self, failure: Failure) {
        self.world().refusals.push_back(failure);
    }

    /// Waits until a send waits.
    pub(crate) async fn left_waiting(&self) {
        let waiting = self.world().waiting.clone().expect("it holds sends");
        waiting.acquire().await.unwrap().forget();
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// The same cloud for a replica with this limiter.
    pub(crate) fn reporting_to(&self, limiter: RateLimiter) -> Self {
        Self { world: self.world.clone(), limiter: Some(limiter) }
    }

    /// Shows `eni` on `instance` with this status.
    pub(crate) fn show(&self, instance: &InstanceId, eni: &InterfaceId, status: &str) {
        let row = Row {
            eni: eni.clone(),
            status: EniStatus::parse(status),
            status_text: status.to_owned(),
            instance: Some(instance.clone()).filter(|_| status != "Available"),
            primary: false,
            network: String::new(),
        };
        self.world().rows.insert(eni.clone(), row);
    }

    /// Forgets an instance: every other one exists, and is stopped.
    pub(crate) fn forget(&self, instance: &InstanceId) {
        self.world().unknown.insert(instance.clone());
    }

    /// Fails every further describe of several instances, if one of them is unknown.
    pub(crate) fn fail_unknown(&self) {
        self.world().fails_unknown = true;
    }

    /// Fails every further describe with this error, or none.
    pub(crate) fn fail(&self, fault: Option<DescribeError>) {
        self.world().fault = fault;
    }

    /// Sets the latency of each call.
    pub(crate) fn take(&self, latency: Duration) {
        self.world().latency = latency;
    }

    /// Sets the result of the next attach and its latency. An accepted ENI is shown in use.
    pub(crate) fn answer(&self, latency: Duration, outcome: Outcome) {
        self.world().answers.push_back((latency, outcome));
    }

    /// Accepts every attach without a set result, and shows its ENI in use.
    pub(crate) fn accept(&self) {
        self.world().accepts = true;
    }

    /// The number of attaches that arrived.
    pub(crate) fn attaches(&self) -> usize {
        let calls = &self.world().calls;
        calls.iter().filter(|call| matches!(call, Call::Attach(..))).count()
    }

    /// The calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.world().calls.clone()
    }

    async fn asked(&self, permit: Permit, call: Call) -> Result<Vec<Row>, DescribeError> {
        let latency = {
            let mut world = self.world();
            world.calls.push(call);
            world.latency
        };
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let answer = {
            let world = self.world();
            let rows = || world.rows.values().cloned().collect();
            world.fault.clone().map_or_else(|| Ok(rows()), Err)
        };
        match (&self.limiter, &answer) {
            (Some(limiter), Err(DescribeError::Throttled { retry_after, .. })) => {
                limiter.record_throttled(&permit, *retry_after).await;
            }
            (Some(limiter), Ok(_)) => limiter.record_passed(&permit).await,
            _ => {}
        }
        answer
    }
}

impl Ens for FakeEns {
    async fn prepare(&self) -> Result<Prepared, Failure> {
        let (refusal, waiting) = {
            let mut world = self.world();
            (world.refusals.pop_front(), world.waiting.clone())
        };
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        if let Some(waiting) = waiting {
            waiting.add_permits(1);
            std::future::pending::<()>().await;
        }
        let credentials = Arc::new(Credentials::new("id", "secret"));
        Ok(Prepared::new(credentials, jiff::Timestamp::now()))
    }

    async fn attach(
        &self,
        _: &Prepared,
        permit: Permit,
        instance: &InstanceId,
        eni: &InterfaceId,
    ) -> Outcome {
        let answer = {
            let mut world = self.world();
            let accepted = || {
                let ens_request_id = "ENS-REQUEST-ID".to_owned();
                (Duration::ZERO, Outcome::Accepted { ens_request_id })
            };
            let accepted = world.accepts.then(accepted);
            world.answers.pop_front().or(accepted)
        };
        // The call is recorded, whatever its result.
        let _ = self.asked(permit, Call::Attach(instance.clone(), eni.clone())).await;
        let Some((latency, outcome)) = answer else {
            return Outcome::NotSent { why: "this cloud attaches nothing".to_owned() };
        };
        tokio::time::sleep(latency).await;
        if matches!(outcome, Outcome::Accepted { .. }) {
            self.show(instance, eni, "InUse");
        }
        outcome
    }

    async fn interfaces(
        &self,
        permit: Permit,
        ids: &[InterfaceId],
    ) -> Result<Vec<Row>, DescribeError> {
        assert!(ids.len() <= MAX_IDS, "{} ids in one describe", ids.len());
        let rows = self.asked(permit, Call::Interfaces(ids.to_vec())).await?;
        Ok(rows.into_iter().filter(|row| ids.contains(&row.eni)).collect())
    }

    async fn interfaces_of(
        &self,
        permit: Permit,
        instance: &InstanceId,
    ) -> Result<Vec<Row>, DescribeError> {
        let rows = self.asked(permit, Call::InterfacesOf(instance.clone())).await?;
        Ok(rows.into_iter().filter(|row| row.instance.as_ref() == Some(instance)).collect())
    }

    async fn instances(
        &self,
        permit: Permit,
        ids: &[InstanceId],
    ) -> Result<Vec<InstanceRow>, DescribeError> {
        assert!(ids.len() <= MAX_INSTANCES, "{} ids in one describe", ids.len());
        self.asked(permit, Call::Instances(ids.to_vec())).await?;
        let World { unknown, fails_unknown, .. } = &*self.world();
        if *fails_unknown && ids.len() > 1 && ids.iter().any(|id| unknown.contains(id)) {
            return Err(DescribeError::UnknownId(EnsRefusal::default()));
        }
        let known = ids.iter().filter(|id| !unknown.contains(id));
        let row = |id: &InstanceId| InstanceRow {
            instance: id.clone(),
            status: "Stopped".to_owned(),
            network: String::new(),
        };
        Ok(known.map(row).collect())
    }
}
