//! One call from arrival to answer: journal, authentication, rate limit, fault, world.
//!
//! It has everything but the sockets, so a simulation can call it directly. It waits on tokio's
//! clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::request::Parts;
use serde_json::json;
use tokio::time::Instant;

use super::action::{Action, VERSION};
use super::auth::{AccessKey, Verifier};
use super::faults::{Effect, Fault, Faults};
use super::journal::{Call, CallJournal};
use super::params::Params;
use super::refusal::Refusal;
use super::reply::HttpReply;
use super::settings::{Clock, Settings};
use super::throttle::Throttle;
use super::world::{Course, World};

/// ENS without its HTTP server. Clones share it.
#[derive(Clone, Debug)]
pub struct Cloud(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    clock: Clock,
    retry_after: bool,
}

#[derive(Debug)]
struct State {
    world: World,
    verifier: Verifier,
    throttle: Throttle,
    faults: Faults,
    /// For a reset.
    first_keys: Vec<AccessKey>,
}

/// The caller's answer.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// ENS's answer.
    Reply(HttpReply),
    /// The first half of ENS's answer, then a closed connection.
    Truncated(HttpReply),
    /// A page of HTML with this status.
    Html(u16),
    /// HTTP 200 with a body that is not JSON.
    NotJson,
    /// The connection is reset.
    Reset,
}

impl Answer {
    /// The outcome as in the journal.
    fn outcome(&self) -> String {
        match self {
            Self::Reply(reply) => reply.code().to_owned(),
            Self::Truncated(_) => "truncated".to_owned(),
            Self::Html(status) => format!("html-{status}"),
            Self::NotJson => "not-json".to_owned(),
            Self::Reset => "reset".to_owned(),
        }
    }

    fn request_id(&self) -> &str {
        match self {
            Self::Reply(reply) | Self::Truncated(reply) => &reply.request_id,
            Self::Html(_) | Self::NotJson | Self::Reset => "",
        }
    }
}

impl Cloud {
    /// A cloud of this world with these settings.
    #[must_use]
    pub fn new(world: World, settings: Settings) -> Self {
        Self(Arc::new(Shared {
            clock: Clock::new(settings.clock_ahead),
            retry_after: settings.retry_after,
            state: Mutex::new(State {
                world,
                throttle: Throttle::new(&settings.rates),
                first_keys: settings.keys.clone(),
                verifier: Verifier::new(settings.keys).with_window(settings.date_window),
                faults: Faults::default(),
            }),
        }))
    }

    /// Answers a call that needs no signature.
    pub async fn call(&self, action: Action, params: &Params) -> Answer {
        let visit = self.arrive(action.name(), params);
        self.process(visit, Ok(action), params).await
    }

    /// Answers a signed request.
    pub async fn receive(&self, parts: &Parts, body: &[u8]) -> Answer {
        let params = params_of(parts, body);
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let name = header("x-acs-action").or(params.get("Action")).unwrap_or_default();
        let visit = self.arrive(name, &params);
        let action = match parts.method {
            http::Method::GET | http::Method::POST => {
                let now = self.0.clock.now();
                self.state().verifier.verify(parts, body, now).and_then(|()| {
                    if header("x-acs-version").or(params.get("Version")) == Some(VERSION) {
                        Action::parse(name).ok_or(Refusal::UNKNOWN_ACTION)
                    } else {
                        Err(Refusal::UNKNOWN_VERSION)
                    }
                })
            }
            _ => Err(Refusal::METHOD),
        };
        self.process(visit, action, &params).await
    }

    /// Queues a fault.
    pub fn fault(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// The faults that are still queued.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.state().faults.waiting().to_vec()
    }

    /// Removes the queued faults.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Replaces the keys.
    pub fn set_keys(&self, keys: Vec<AccessKey>) {
        self.state().verifier.set_keys(keys);
    }

    /// The current journal.
    #[must_use]
    pub fn journal(&self) -> CallJournal {
        self.world(|world, _| world.journal().clone())
    }

    /// Passes the world and the current time to `visit`, which may bypass every rule.
    pub fn world<T>(&self, visit: impl FnOnce(&mut World, Instant) -> T) -> T {
        let mut state = self.state();
        // Read under the lock, because the world needs calls in the order of their times.
        let now = Instant::now();
        state.world.advance(now);
        visit(&mut state.world, now)
    }

    /// Resets the world, the journal, the faults and the keys. Used nonces stay used.
    pub fn reset(&self) {
        let mut state = self.state();
        state.world.reset();
        state.faults.clear();
        let keys = state.first_keys.clone();
        state.verifier.set_keys(keys);
    }

    /// ENS's current `Date`.
    pub(super) fn date(&self) -> String {
        self.0.clock.date()
    }

    /// No method panics while it holds the lock, so a poisoned lock guards a valid state.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrive(&self, action: &str, params: &Params) -> Visit {
        self.world(|world, now| {
            let call = Call {
                action: action.to_owned(),
                instance: params.get("InstanceId").map(str::to_owned),
                enis: params.enis(),
                at_ms: world.millis(now),
                outcome: "abandoned".to_owned(),
                ..Call::default()
            };
            world.journal_mut().begin(&call);
            Visit { cloud: self.clone(), call }
        })
    }

    async fn process(
        &self,
        mut visit: Visit,
        action: Result<Action, Refusal>,
        params: &Params,
    ) -> Answer {
        let admitted =
            action.and_then(|action| self.admit(action, params).map(|fault| (action, fault)));
        let answer = match admitted {
            Err(refusal) => Answer::Reply(self.state().world.reply(Err(refusal))),
            Ok((action, None)) => {
                Answer::Reply(self.apply(&mut visit, action, params, Course::default()))
            }
            Ok((action, Some(fault))) => self.suffer(&mut visit, action, params, fault).await,
        };
        visit.call.outcome = answer.outcome();
        answer.request_id().clone_into(&mut visit.call.request_id);
        answer
    }

    /// Applies the rate limit, and returns the call's fault.
    fn admit(&self, action: Action, params: &Params) -> Result<Option<Fault>, Refusal> {
        let mut state = self.state();
        let taken = state.throttle.take(action, Instant::now());
        taken.map_err(|wait| Refusal::THROTTLED.retry_after(self.0.retry_after.then_some(wait)))?;
        Ok(state.faults.strike(action, params))
    }

    fn apply(
        &self,
        visit: &mut Visit,
        action: Action,
        params: &Params,
        course: Course,
    ) -> HttpReply {
        let world = &mut self.state().world;
        let now = Instant::now();
        let reply = match action {
            Action::AttachNetworkInterface => world.handle_attach(params, course, now),
            _ => world.handle(action, params, now),
        };
        visit.call.applied = reply.outcome.is_ok();
        reply
    }

    async fn suffer(
        &self,
        visit: &mut Visit,
        action: Action,
        params: &Params,
        fault: Fault,
    ) -> Answer {
        wait(fault.delay).await;
        let mut apply = |course| self.apply(visit, action, params, course);
        let refuse = |refusal| Answer::Reply(self.state().world.reply(Err(refusal)));
        let answer = match fault.effect {
            Effect::None => Answer::Reply(apply(Course::Succeeds)),
            Effect::AcceptThenFail => Answer::Reply(apply(Course::Fails)),
            Effect::AttachTime { takes } => Answer::Reply(apply(Course::Takes(takes))),
            Effect::AcceptThenForget => Answer::Reply(self.state().world.reply(Ok(json!({})))),
            Effect::Refuse { code, status, message } => refuse(Refusal::new(status, code, message)),
            Effect::RefuseApplied { code, status, message, retry_after } => {
                apply(Course::Succeeds);
                refuse(Refusal::new(status, code, message).retry_after(retry_after))
            }
            Effect::Throttle { retry_after } => refuse(Refusal::THROTTLED.retry_after(retry_after)),
            Effect::Mask => {
                apply(Course::Succeeds);
                refuse(Refusal::INTERFACE_ERROR)
            }
            Effect::DropBefore => Answer::Reset,
            Effect::DropAfter => {
                apply(Course::Succeeds);
                Answer::Reset
            }
            Effect::ApplyLate { after } => {
                self.apply_late(action, params, after);
                Answer::Reset
            }
            Effect::Replay { after } => {
                let reply = apply(Course::Succeeds);
                self.apply_late(action, params, after);
                Answer::Reply(reply)
            }
            Effect::Truncated => Answer::Truncated(apply(Course::Succeeds)),
            Effect::Html { status, apply: applies } => {
                applies.then(|| apply(Course::Succeeds));
                Answer::Html(status)
            }
            Effect::NotJson { apply: applies } => {
                applies.then(|| apply(Course::Succeeds));
                Answer::NotJson
            }
        };
        wait(fault.delay_answer).await;
        answer
    }

    fn apply_late(&self, action: Action, params: &Params, after: Duration) {
        let names = params.get("InstanceId").zip(params.get("NetworkInterfaceId"));
        if let (Action::AttachNetworkInterface, Some((instance, eni))) = (action, names) {
            self.world(|world, now| world.attach_at(instance, eni, now + after));
        }
    }
}

/// A call in processing. Its drop records the end.
struct Visit {
    cloud: Cloud,
    call: Call,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut call = std::mem::take(&mut self.call);
        let instance = call.instance.as_deref().unwrap_or_default();
        tracing::debug!(action = call.action, instance, enis = ?call.enis, outcome = call.outcome, "simulated call");
        self.cloud.world(|world, now| {
            call.until_ms = world.millis(now);
            world.journal_mut().end(call);
        });
    }
}

async fn wait(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

/// The query's parameters and those of a form body.
fn params_of(parts: &Parts, body: &[u8]) -> Params {
    let mut params = Params::decode(parts.uri.query().unwrap_or_default());
    let content_type =
        parts.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|it| it.starts_with("application/x-www-form-urlencoded")) {
        params.extend(Params::decode(&String::from_utf8_lossy(body)));
    }
    params
}
