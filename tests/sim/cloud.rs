//! One gateway's connection to ENS: the simulator's world behind a network that is slow and loses
//! messages. It may deliver an attach long after its sender's timeout. The gateway's own wire code
//! parses the answers.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use eni_gateway::ens::classify::{self, EnsReply};
use eni_gateway::ens::credentials::Credentials;
use eni_gateway::ens::redaction::Redaction;
use eni_gateway::ens::transport::{MissingResponse, Response};
use eni_gateway::ens::{DescribeError, Ens, InstanceRow, MAX_IDS, Outcome, Prepared, Row, wire};
use eni_gateway::model::{Failure, InstanceId, InterfaceId, Timestamp, random};
use eni_gateway::rate_limit::{Permit, RateClass, RateLimiter};
use eni_gateway::simulator::{Action, Answer, Effect, Fault, Params};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::checks::OnItsWay;
use crate::hostile_ens;
use crate::mutation::Mutation;
use crate::network::exchange;
use crate::process_state::ProcessState;
use crate::run::Simulation;

/// `ens.attempt_timeout` and `ens.describe_timeout`.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);
pub(crate) const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(3);

/// One gateway's client.
pub(crate) struct Cloud {
    simulation: Arc<Simulation>,
    process: ProcessState,
    gateway: String,
    limiter: RateLimiter,
    credentials: Arc<Credentials>,
}

impl Cloud {
    pub(crate) fn new(
        simulation: Arc<Simulation>,
        process: ProcessState,
        gateway: String,
        limiter: RateLimiter,
    ) -> Self {
        Self {
            simulation,
            process,
            gateway,
            limiter,
            credentials: Arc::new(Credentials::new("id", "secret")),
        }
    }

    /// One call, from the gateway's socket and back.
    async fn call(
        &self,
        action: Action,
        params: Params,
        permit: Permit,
        instance: Option<&InstanceId>,
        sent: Option<OnItsWay>,
    ) -> EnsReply {
        let simulation = self.simulation.clone();
        let now = || simulation.history.elapsed();
        let counts = simulation.progress.ens_call(&self.gateway, &permit, instance, now());
        let timeout = match action {
            Action::AttachNetworkInterface => ATTEMPT_TIMEOUT,
            _ => DESCRIBE_TIMEOUT,
        };
        let quality = simulation.cloud_network(action);
        let world = simulation.clone();
        let work = async move { arrive(&world, action, &params, sent).await };
        let answer = exchange(&simulation, &self.process, quality, timeout, work).await;
        if counts {
            simulation.progress.ens_call_ended(&self.gateway, instance, now());
        }
        let reply = match answer {
            Ok(answer) => read(&answer),
            Err(_) => fault("timeout"),
        };
        reply.report(permit, &self.limiter).await;
        reply
    }

    async fn describe(
        &self,
        action: Action,
        params: Params,
        permit: Permit,
        instance: Option<&InstanceId>,
    ) -> Result<serde_json::Value, DescribeError> {
        self.call(action, params, permit, instance, None).await.into_described()
    }

    /// One page holds everything in this world.
    async fn rows(
        &self,
        params: Params,
        permit: Permit,
        instance: Option<&InstanceId>,
    ) -> Result<Vec<Row>, DescribeError> {
        let action = Action::DescribeNetworkInterfaces;
        let body = self.describe(action, params, permit, instance).await?;
        let page = wire::interfaces(body)
            .map_err(|error| DescribeError::Unavailable(error.to_string()))?;
        assert_eq!(page.rows.len(), page.total);
        Ok(page.rows)
    }
}

/// What ENS does with a call that has come through.
async fn arrive(
    simulation: &Arc<Simulation>,
    action: Action,
    params: &Params,
    sent: Option<OnItsWay>,
) -> Answer {
    let date = sent.as_ref().map(|sent| sent.date);
    let validity = simulation.plan.bounds.validity - simulation.plan.spare;
    let left = date.map(|date| (date + validity).since(simulation.now()));
    if left.is_some_and(|left| left.is_zero()) {
        simulation.history.note(format_args!("ens: {action} came too late: {params:?}"));
        return if simulation.plan.enforce_validity { expired() } else { Answer::Reset };
    }
    let before = applications(simulation, params);
    let mut call = pin!(simulation.cloud.call(action, params));
    if let Some(fault) = simulation.cloud_fault(action, left) {
        simulation.history.note(format_args!("ens: {:?} affects {action}", fault.effect));
        simulation.cloud.fault(fault);
    }
    // A fault takes effect in the first step, or not at all: another call must not meet it.
    let first = futures_util::poll!(&mut call);
    simulation.cloud.clear_faults();
    let answer = match first {
        std::task::Poll::Ready(answer) => answer,
        std::task::Poll::Pending => call.await,
    };
    if let Some(sent) = sent {
        let applied = applications(simulation, params) > before;
        simulation.checks.arrived(simulation, sent, &answer, applied);
    }
    answer
}

/// How many attaches of this pair took effect so far.
fn applications(simulation: &Simulation, params: &Params) -> u64 {
    let names = params.get("InstanceId").zip(params.get("NetworkInterfaceId"));
    let pair = |(instance, eni)| {
        simulation.cloud.world(|world, _| world.journal().pair(instance, eni).applied)
    };
    names.map_or(0, pair)
}

fn expired() -> Answer {
    use eni_gateway::simulator::{HttpReply, Refusal};
    Answer::Reply(HttpReply {
        request_id: random::uuid().to_string(),
        outcome: Err(Refusal::DATE_EXPIRED),
    })
}

fn fault(kind: &'static str) -> EnsReply {
    classify::missing_response(MissingResponse {
        sent: true,
        kind,
        why: kind.to_owned(),
        handshake: None,
    })
}

fn read(answer: &Answer) -> EnsReply {
    let response = |status, body: String| {
        classify::response(
            &Response { status, retry_after: None, date: None, body: body.into_bytes() },
            &Redaction::default(),
        )
    };
    match answer {
        Answer::Reply(reply) => classify::response(
            &Response {
                status: reply.status(),
                retry_after: reply.outcome.as_ref().err().and_then(|refusal| refusal.retry_after),
                date: None,
                body: reply.body().to_string().into_bytes(),
            },
            &Redaction::default(),
        ),
        Answer::Html(status) => response(*status, "<html>".to_owned()),
        Answer::NotJson => response(200, "so it is".to_owned()),
        Answer::Truncated(_) | Answer::Reset => fault("connection"),
    }
}

impl Ens for Cloud {
    async fn prepare(&self) -> Result<Prepared, Failure> {
        self.process.pass().await;
        let micros = i64::try_from(self.simulation.now().as_micros()).unwrap();
        let date = jiff::Timestamp::from_microsecond(micros).unwrap();
        Ok(Prepared::new(self.credentials.clone(), date))
    }

    async fn attach(
        &self,
        prepared: &Prepared,
        permit: Permit,
        instance: &InstanceId,
        eni: &InterfaceId,
    ) -> Outcome {
        let date = Timestamp::from_micros(u64::try_from(prepared.date().as_microsecond()).unwrap());
        let sent = self.simulation.checks.record_send(
            &self.simulation,
            &self.gateway,
            instance,
            eni,
            date,
        );
        self.simulation.sending.notify_waiters();
        let params = Params::from_iter([
            ("InstanceId", instance.as_str()),
            ("NetworkInterfaceId", eni.as_str()),
        ]);
        let action = Action::AttachNetworkInterface;
        let mut reply = self.call(action, params.clone(), permit, Some(instance), Some(sent)).await;
        if let (true, EnsReply::Unsettled { .. }) =
            (Mutation::sends_again(&self.simulation.plan), &reply)
            && let Ok(permit) = self.limiter.try_permit(RateClass::Attach).await
        {
            let sent = self.simulation.checks.record_send(
                &self.simulation,
                &self.gateway,
                instance,
                eni,
                date,
            );
            reply = self.call(action, params, permit, Some(instance), Some(sent)).await;
        }
        let outcome = reply.into_outcome();
        let answer = match &outcome {
            Outcome::Accepted { .. } => "accepted".to_owned(),
            Outcome::Refused(refusal)
            | Outcome::Conflict(refusal)
            | Outcome::Unproven(refusal)
            | Outcome::Throttled { refusal, .. } => refusal.code.clone(),
            Outcome::NotSent { why } | Outcome::Unanswered { why, .. } => why.clone(),
        };
        self.simulation
            .history
            .note(format_args!("{}: attach of {eni} to {instance}: {answer}", self.gateway));
        outcome
    }

    async fn interfaces(
        &self,
        permit: Permit,
        ids: &[InterfaceId],
    ) -> Result<Vec<Row>, DescribeError> {
        assert!(ids.len() <= MAX_IDS, "{} ids in one describe", ids.len());
        let names = (1..).map(|number| format!("NetworkInterfaceIds.{number}"));
        let named: Vec<_> = names.zip(ids.iter().map(|id| id.as_str())).collect();
        let named = named.iter().map(|(name, id)| (name.as_str(), *id));
        let params = Params::from_iter(named.chain([("PageSize", "50")]));
        let asked = self.simulation.now();
        let rows = self.rows(params, permit, None).await?;
        self.simulation.checks.described(&self.simulation, &self.gateway, asked, None, ids, &rows);
        Ok(rows)
    }

    async fn interfaces_of(
        &self,
        permit: Permit,
        instance: &InstanceId,
    ) -> Result<Vec<Row>, DescribeError> {
        let params = Params::from_iter([("InstanceId", instance.as_str()), ("PageSize", "50")]);
        let asked = self.simulation.now();
        let rows = self.rows(params, permit, Some(instance)).await?;
        self.simulation.checks.described(
            &self.simulation,
            &self.gateway,
            asked,
            Some(instance),
            &[],
            &rows,
        );
        Ok(rows)
    }

    async fn instances(
        &self,
        permit: Permit,
        ids: &[InstanceId],
    ) -> Result<Vec<InstanceRow>, DescribeError> {
        let list = serde_json::json!(ids).to_string();
        let params = Params::from_iter([("InstanceIds", list.as_str()), ("PageSize", "100")]);
        let about = if let [instance] = ids { Some(instance) } else { None };
        let body = self.describe(Action::DescribeInstances, params, permit, about).await?;
        wire::instances(body).map_err(|error| DescribeError::Unavailable(error.to_string()))
    }
}

/// What a hostile ENS does to an attach. ENS remembers what it has answered; a copy that overtakes
/// that arrives soon.
pub(crate) fn draw_hostile(replayed_within: Duration) -> Effect {
    let mut random = StdRng::seed_from_u64(random::between(0..u64::MAX));
    hostile_ens::draw(&mut random, replayed_within)
}

/// A refusal with this code.
pub(crate) fn refusal(code: &str) -> Effect {
    Effect::Refuse { code: code.to_owned(), status: 400, message: String::new() }
}

/// What may happen to a call in ENS. An attach that is applied late is so while its date holds.
pub(crate) fn draw_fault(action: Action, left: Option<Duration>) -> Fault {
    let delay = Duration::from_millis(random::between(0..3_000));
    let (status, apply) = (502, random::fraction() < 0.5);
    let after = left.unwrap_or_default().mul_f64(random::fraction());
    let effect = match (random::between(0..12), action) {
        (0, _) => Effect::Throttle { retry_after: None },
        (1, _) => Effect::DropBefore,
        (2, _) => Effect::DropAfter,
        (3, _) => Effect::Mask,
        (4, _) => Effect::Html { status, apply },
        (5, _) => Effect::NotJson { apply },
        (6, _) => Effect::Truncated,
        (7, Action::AttachNetworkInterface) => Effect::ApplyLate { after },
        (8, Action::AttachNetworkInterface) => Effect::AcceptThenFail,
        (9, Action::AttachNetworkInterface) => Effect::AcceptThenForget,
        (10, Action::AttachNetworkInterface) => refusal("InvalidOperation.InvalidEnsStatus"),
        _ => Effect::None,
    };
    let fault = Fault::next(action, effect);
    match random::between(0..3) {
        // Before it takes effect only as long as its date holds.
        0 if left.is_none_or(|left| delay < left) => fault.delay(delay),
        1 => fault.delay_answer(delay),
        _ => fault,
    }
}
