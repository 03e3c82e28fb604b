//! Callers that follow the documentation: they retry, watch to the end, and resume broken streams
//! at another replica.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use eni_gateway::model::{Reason, RetryAdvice, SendEffect};
use eni_gateway::simulator::{Action, EniStatus, PairJournal, Params};
use rand::prelude::*;
use tokio::time::{Instant, sleep};

use crate::environment::Environment;
use crate::episode::{End, Episode, ReportedOutcome, Violation};
use crate::support::gateway::{attach, try_attach, within};
use crate::support::python::{self, PythonClient};
use crate::view::{Left, View, state};

/// How long a caller waits for an end. Longer than three sends with their graces, and a hold-down.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long an ENI that others detached may still be taken for attached: its last observation is
/// believed for 5 s, and that may have been a lag old.
const STALE: Duration = Duration::from_secs(8);
/// Deadlines of calls, in milliseconds.
const DEADLINES: [u64; 4] = [1_000, 3_000, 5_000, 10_000];

/// How many episodes a violation is shown with.
const LATELY: usize = 6;

/// An ENI, and how it went on each instance: checked when it goes there again, for until then
/// something may come late.
pub(crate) struct Caller {
    environment: Arc<Environment>,
    eni: String,
    /// A client in another language, with one call at a time.
    client: Option<PythonClient>,
    random: StdRng,
    episodes: BTreeMap<String, Past>,
    /// The last few, for the text of a violation.
    lately: VecDeque<String>,
}

/// An episode, and the simulator's journal before it and at its end.
struct Past {
    episode: Episode,
    before: PairJournal,
    shown: PairJournal,
}

impl Caller {
    pub(crate) fn new(environment: &Arc<Environment>, eni: String, seed: u64) -> Self {
        Self {
            environment: environment.clone(),
            eni,
            client: None,
            random: StdRng::seed_from_u64(seed),
            episodes: BTreeMap::new(),
            lately: VecDeque::new(),
        }
    }

    /// Makes its calls through grpcio, as clients in Python, C++, Ruby and PHP do.
    pub(crate) fn over_grpcio(mut self) -> Self {
        self.client = Some(PythonClient::start());
        self
    }

    pub(crate) fn eni(&self) -> &str {
        &self.eni
    }

    /// Attaches here and there until the run is over; what is attached then stays.
    pub(crate) async fn run(mut self, homes: Vec<String>) {
        let mut left: BTreeMap<String, Instant> = BTreeMap::new();
        while !self.environment.is_ending() {
            let clean = |home: &&String| left.get(*home).is_none_or(|at| at.elapsed() > STALE);
            if let Some(instance) = homes.iter().filter(clean).choose(&mut self.random) {
                self.attach(instance, None).await;
                if self.environment.is_ending() {
                    break;
                }
                if let Some(instance) = self.detach().await {
                    left.insert(instance, Instant::now());
                }
            }
            sleep(Duration::from_millis(self.random.random_range(0..200))).await;
        }
        // Something may still come late.
        self.environment.calm().await;
        let instances: Vec<_> = self.episodes.keys().cloned().collect();
        for instance in instances {
            self.check(&instance).await;
        }
    }

    /// One episode, first over this gateway. `true` if it was accepted.
    pub(crate) async fn attach(&mut self, instance: &str, first: Option<usize>) {
        self.check(instance).await;
        let (began, before) = (Instant::now(), self.journal(instance));
        let mut story = Vec::new();
        let (answers, end) = self.episode(instance, first, began, &mut story).await;
        let shown = self.journal(instance);
        let episode = Episode {
            instance: instance.to_owned(),
            eni: self.eni.clone(),
            answers,
            end,
            ended: self.environment.elapsed(),
            story,
            lossy: self.environment.has_lost_since(began),
            arrived: 0,
            applied: 0,
            applied_after: 0,
        };
        let (answers, end, ended) = (&episode.answers, episode.end, episode.ended);
        self.lately.push_back(format!("{instance}: {answers:?}, {end:?} at {ended:.1?}"));
        if self.lately.len() > LATELY {
            self.lately.pop_front();
        }
        self.episodes.insert(instance.to_owned(), Past { episode, before, shown });
    }

    async fn episode(
        &mut self,
        instance: &str,
        mut first: Option<usize>,
        began: Instant,
        story: &mut Vec<String>,
    ) -> (Vec<ReportedOutcome>, End) {
        let environment = self.environment.clone();
        let mut answers = Vec::new();
        let mut waiting = environment.waits.begin(instance);
        while began.elapsed() < PATIENCE {
            let gateway = first.take().unwrap_or_else(|| environment.any(&mut self.random));
            let deadline = Duration::from_millis(*DEADLINES.choose(&mut self.random).unwrap());
            let asked = environment.elapsed();
            let (answer, uid) = match &mut self.client {
                Some(client) => {
                    call_by(client, &environment, gateway, deadline, instance, &self.eni).await
                }
                None => call(&environment, gateway, deadline, instance, &self.eni).await,
            };
            environment.counters.answered(&answer);
            waiting.answered(answer.to_string());
            let answered = environment.elapsed();
            story.push(format!(
                "{asked:.1?} to {answered:.1?} gateway {gateway} within {deadline:?}: {answer:?} \
                 {uid}"
            ));
            answers.push(answer.clone());
            match answer {
                ReportedOutcome::Accepted => {
                    waiting.served();
                    let end = self.end(instance, &uid, began, story).await;
                    return (answers, end);
                }
                ReportedOutcome::Refused { reason, .. } if is_final(reason) => {
                    waiting.served();
                    return (answers, End::Refused);
                }
                // It has its slot: what it waits for is ENS.
                ReportedOutcome::Refused { reason: Reason::OutcomeUnknown, .. } => waiting.gone(),
                ReportedOutcome::Refused { .. } | ReportedOutcome::Nothing => {}
            }
            sleep(Duration::from_millis(self.random.random_range(20..250))).await;
        }
        (answers, End::Open(PATIENCE))
    }

    /// Watches to the end.
    async fn end(
        &mut self,
        instance: &str,
        uid: &str,
        began: Instant,
        story: &mut Vec<String>,
    ) -> End {
        let mut view = View::of(instance, &self.eni);
        while began.elapsed() < PATIENCE {
            let client = self.environment.client(&mut self.random);
            match view.watch(&self.environment, client, false).await {
                Left::Ended => {
                    let in_use = self.is_in_use(instance);
                    let last = view.last.get(&self.eni);
                    let end = match last {
                        Some(last) if last.uid == uid => End::Shown { state: state(last), in_use },
                        Some(_) | None => End::Unknown,
                    };
                    story.extend(
                        last.map(|last| {
                            format!("{:.1?} shown {last:?}", self.environment.elapsed())
                        }),
                    );
                    return end;
                }
                Left::NotFound => return End::Unknown,
                Left::Broken => {
                    sleep(Duration::from_millis(self.random.random_range(20..250))).await
                }
            }
        }
        End::Open(PATIENCE)
    }

    /// Has it detached behind the gateway's back, once it is at rest; from where, if it was
    /// attached.
    pub(crate) async fn detach(&self) -> Option<String> {
        let mut from = None;
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let at = self
                .environment
                .stage
                .ens
                .world(|world, _| world.placement(&self.eni).cloned())
                .expect("the ENI exists");
            match at.status {
                EniStatus::Available => return from,
                EniStatus::InUse => {
                    from = at.instance;
                    let names = [("NetworkInterfaceId", self.eni.as_str())];
                    self.environment
                        .stage
                        .ens
                        .call(Action::DetachNetworkInterface, &Params::from_iter(names))
                        .await;
                }
                _ => {}
            }
            sleep(Duration::from_millis(20)).await;
        }
        from
    }

    fn is_in_use(&self, instance: &str) -> bool {
        self.environment.stage.ens.world(|world, _| {
            let at = world.placement(&self.eni).expect("the ENI exists");
            at.status == EniStatus::InUse && at.instance.as_deref() == Some(instance)
        })
    }

    fn journal(&self, instance: &str) -> PairJournal {
        self.environment.stage.ens.world(|world, _| world.journal().pair(instance, &self.eni))
    }

    /// The last episode there, as things stand now.
    async fn check(&mut self, instance: &str) {
        let now = self.journal(instance);
        let Some(Past { mut episode, before, shown }) = self.episodes.remove(instance) else {
            return;
        };
        episode.arrived = now.attach_calls - before.attach_calls;
        episode.applied = lasting(now) - lasting(before);
        episode.applied_after = lasting(now) - lasting(shown);
        self.environment.counters.ended(&episode);
        for (violation, what) in episode.check() {
            let traces = self.environment.traces(instance, &self.eni).await.join("\n    ");
            self.environment.violation(
                violation,
                format!("{what}\n  lately {:?}\n  traces:\n    {traces}", self.lately),
            );
        }
    }
}

/// The answer, and the attempt that was accepted.
async fn call(
    environment: &Environment,
    gateway: usize,
    deadline: Duration,
    instance: &str,
    eni: &str,
) -> (ReportedOutcome, String) {
    let request = within(deadline, attach(instance, eni));
    let client = environment.gateways[gateway].client();
    let calling = try_attach(&client, request);
    // A paused process does not answer, and the client's own timer ends the call a little later.
    let outcome = match tokio::time::timeout(deadline + Duration::from_millis(500), calling).await {
        Ok(Ok(attachment)) => return (ReportedOutcome::Accepted, attachment.uid),
        Err(_) => ReportedOutcome::Nothing,
        Ok(Err((status, details))) => match details.error_info() {
            None => ReportedOutcome::Nothing,
            Some(info) => {
                refused(environment, &info.reason, info.metadata.contains_key("ensCode"), &status)
            }
        },
    };
    (outcome, String::new())
}

/// The same through another client, which keeps the deadline itself.
async fn call_by(
    client: &mut PythonClient,
    environment: &Environment,
    gateway: usize,
    deadline: Duration,
    instance: &str,
    eni: &str,
) -> (ReportedOutcome, String) {
    let target = environment.gateways[gateway].target();
    let call = python::within(deadline.as_secs_f64(), python::attach(&target, instance, eni));
    let answer = client.call_one(call).await;
    if answer["code"] == "OK" {
        let uid = answer["response"]["attachment"]["uid"].as_str().unwrap_or_default();
        return (ReportedOutcome::Accepted, uid.to_owned());
    }
    let by_ens = !answer["details"]["ErrorInfo"]["metadata"]["ensCode"].is_null();
    let outcome = match answer["reason"].as_str() {
        None => ReportedOutcome::Nothing,
        Some(reason) => refused(environment, reason, by_ens, &answer),
    };
    (outcome, String::new())
}

fn refused(
    environment: &Environment,
    reason: &str,
    by_ens: bool,
    answer: &impl std::fmt::Debug,
) -> ReportedOutcome {
    match Reason::named(reason) {
        Some(reason) => ReportedOutcome::Refused { reason, by_ens },
        None => {
            environment.violation(Violation::Wrong, format!("an unknown reason: {answer:?}"));
            ReportedOutcome::Nothing
        }
    }
}

/// How many attaches took effect and lasted: a caller need not have seen one that ENS took back.
const fn lasting(ledger: PairJournal) -> u64 {
    ledger.applied - ledger.failed
}

/// Whether a caller gives up at this answer.
fn is_final(reason: Reason) -> bool {
    let retried = matches!(reason, Reason::EnsThrottled)
        || reason.send_effect() == SendEffect::Nothing
        || reason.send_effect() == SendEffect::Unknown;
    !retried || reason.retry_advice() == RetryAdvice::AfterChange
}

/// The instances that one ENI goes to: five of its own, as far as there are so many, and two
/// crowded ones.
pub(crate) fn homes(number: usize, instances: usize, crowded: usize) -> Vec<String> {
    let own = crowded..instances;
    let own = [0, 11, 23, 41, 67].map(|step| own.start + (number + step) % own.len());
    let crowds = [0, 1].map(|step| (number + step) % crowded);
    let homes: BTreeSet<usize> = own.into_iter().chain(crowds).collect();
    homes.into_iter().map(|index| format!("i-{index}")).collect()
}
