//! Callers as the documentation wants them: they repeat what may be repeated, watch to the end, and take up broken streams elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use eni_gateway::model::{Reason, RetryAdvice, SendEffect};
use eni_gateway::simulator::{Action, EniStatus, PairBook, Params};
use rand::prelude::*;
use tokio::time::{Instant, sleep};

use crate::arena::Arena;
use crate::episode::{End, Episode, Finding, Told};
use crate::support::gateway::{attach, try_attach, within};
use crate::support::python::{self, Foreign};
use crate::view::{Left, View, state};

/// How long a caller waits for an end. Longer than three sends with their graces, and a hold.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long an ENI that others detached may still be taken for attached: its last sight is believed for 5 s, and that may have been a
/// lag old.
const STALE: Duration = Duration::from_secs(8);
/// Deadlines of calls, in milliseconds.
const DEADLINES: [u64; 4] = [1_000, 3_000, 5_000, 10_000];

/// How many episodes a finding is shown with.
const LATELY: usize = 6;

/// An ENI, and how it went on each instance: judged when it goes there again, for until then something may come late.
pub(crate) struct Caller {
    arena: Arc<Arena>,
    eni: String,
    /// A client in another language, with one call at a time.
    client: Option<Foreign>,
    random: StdRng,
    episodes: BTreeMap<String, Past>,
    /// The last few, for whoever reads a finding.
    lately: VecDeque<String>,
}

/// An episode, and the simulator's books before it and at its end.
struct Past {
    episode: Episode,
    before: PairBook,
    shown: PairBook,
}

impl Caller {
    pub(crate) fn new(arena: &Arc<Arena>, eni: String, seed: u64) -> Self {
        Self {
            arena: arena.clone(),
            eni,
            client: None,
            random: StdRng::seed_from_u64(seed),
            episodes: BTreeMap::new(),
            lately: VecDeque::new(),
        }
    }

    /// Makes its calls through grpcio, as clients in Python, C++, Ruby and PHP do.
    pub(crate) fn over_grpcio(mut self) -> Self {
        self.client = Some(Foreign::start());
        self
    }

    pub(crate) fn eni(&self) -> &str {
        &self.eni
    }

    /// Attaches here and there until the run is over; what is attached then stays.
    pub(crate) async fn run(mut self, homes: Vec<String>) {
        let mut left: BTreeMap<String, Instant> = BTreeMap::new();
        while !self.arena.is_ending() {
            let clean = |home: &&String| left.get(*home).is_none_or(|at| at.elapsed() > STALE);
            if let Some(instance) = homes.iter().filter(clean).choose(&mut self.random) {
                self.attach(instance, None).await;
                if self.arena.is_ending() {
                    break;
                }
                if let Some(instance) = self.detach().await {
                    left.insert(instance, Instant::now());
                }
            }
            sleep(Duration::from_millis(self.random.random_range(0..200))).await;
        }
        // Something may still come late.
        self.arena.calm().await;
        let instances: Vec<_> = self.episodes.keys().cloned().collect();
        for instance in instances {
            self.judge(&instance).await;
        }
    }

    /// One episode, first over this gateway. `true` if it was accepted.
    pub(crate) async fn attach(&mut self, instance: &str, first: Option<usize>) {
        self.judge(instance).await;
        let (began, before) = (Instant::now(), self.books(instance));
        let mut story = Vec::new();
        let (told, end) = self.episode(instance, first, began, &mut story).await;
        let shown = self.books(instance);
        let episode = Episode {
            instance: instance.to_owned(),
            eni: self.eni.clone(),
            told,
            end,
            ended: self.arena.elapsed(),
            story,
            lossy: self.arena.has_lost_since(began),
            arrived: 0,
            applied: 0,
            applied_after: 0,
        };
        let (told, end, ended) = (&episode.told, episode.end, episode.ended);
        self.lately
            .push_back(format!("{instance}: {told:?}, {end:?} at {ended:.1?}"));
        if self.lately.len() > LATELY {
            self.lately.pop_front();
        }
        self.episodes
            .insert(instance.to_owned(), Past { episode, before, shown });
    }

    async fn episode(
        &mut self,
        instance: &str,
        mut first: Option<usize>,
        began: Instant,
        story: &mut Vec<String>,
    ) -> (Vec<Told>, End) {
        let arena = self.arena.clone();
        let mut told = Vec::new();
        let mut waiting = arena.waits.begin(instance);
        while began.elapsed() < PATIENCE {
            let gateway = first.take().unwrap_or_else(|| arena.any(&mut self.random));
            let deadline = Duration::from_millis(*DEADLINES.choose(&mut self.random).unwrap());
            let asked = arena.elapsed();
            let (answer, uid) = match &mut self.client {
                Some(client) => call_by(client, &arena, gateway, deadline, instance, &self.eni).await,
                None => call(&arena, gateway, deadline, instance, &self.eni).await,
            };
            arena.tally.told(&answer);
            let heard = arena.elapsed();
            story.push(format!(
                "{asked:.1?} to {heard:.1?} gateway {gateway} within {deadline:?}: {answer:?} {uid}"
            ));
            told.push(answer.clone());
            match answer {
                Told::Accepted => {
                    waiting.served();
                    let end = self.end(instance, &uid, began, story).await;
                    return (told, end);
                }
                Told::Refused { reason, .. } if is_final(reason) => {
                    waiting.served();
                    return (told, End::Refused);
                }
                // It has its slot: what it waits for is ENS.
                Told::Refused {
                    reason: Reason::OutcomeUnknown,
                    ..
                } => waiting.gone(),
                Told::Refused { .. } | Told::Nothing => {}
            }
            sleep(Duration::from_millis(self.random.random_range(20..250))).await;
        }
        (told, End::Open(PATIENCE))
    }

    /// Watches to the end.
    async fn end(&mut self, instance: &str, uid: &str, began: Instant, story: &mut Vec<String>) -> End {
        let mut view = View::of(instance, &self.eni);
        while began.elapsed() < PATIENCE {
            let client = self.arena.client(&mut self.random);
            match view.watch(&self.arena, client, false).await {
                Left::Ended => {
                    let in_use = self.is_in_use(instance);
                    let last = view.last.get(&self.eni);
                    let end = match last {
                        Some(last) if last.uid == uid => End::Shown {
                            state: state(last),
                            in_use,
                        },
                        Some(_) | None => End::Unknown,
                    };
                    story.extend(last.map(|last| format!("{:.1?} shown {last:?}", self.arena.elapsed())));
                    return end;
                }
                Left::NotFound => return End::Unknown,
                Left::Broken => sleep(Duration::from_millis(self.random.random_range(20..250))).await,
            }
        }
        End::Open(PATIENCE)
    }

    /// Has it detached behind the gateway's back, once it is at rest; from where, if it was attached.
    pub(crate) async fn detach(&self) -> Option<String> {
        let mut from = None;
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let at = self
                .arena
                .stage
                .ens
                .world(|world, _| world.placement(&self.eni).cloned())
                .expect("the ENI exists");
            match at.status {
                EniStatus::Available => return from,
                EniStatus::InUse => {
                    from = at.instance;
                    let names = [("NetworkInterfaceId", self.eni.as_str())];
                    self.arena
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
        self.arena.stage.ens.world(|world, _| {
            let at = world.placement(&self.eni).expect("the ENI exists");
            at.status == EniStatus::InUse && at.instance.as_deref() == Some(instance)
        })
    }

    fn books(&self, instance: &str) -> PairBook {
        self.arena
            .stage
            .ens
            .world(|world, _| world.books().pair(instance, &self.eni))
    }

    /// The last episode there, as things stand now.
    async fn judge(&mut self, instance: &str) {
        let now = self.books(instance);
        let Some(Past {
            mut episode,
            before,
            shown,
        }) = self.episodes.remove(instance)
        else {
            return;
        };
        episode.arrived = now.attach_calls - before.attach_calls;
        episode.applied = lasting(now) - lasting(before);
        episode.applied_after = lasting(now) - lasting(shown);
        self.arena.tally.ended(&episode);
        for (finding, what) in episode.judge() {
            let traces = self.arena.traces(instance, &self.eni).await.join("\n    ");
            self.arena.finding(
                finding,
                format!("{what}\n  lately {:?}\n  traces:\n    {traces}", self.lately),
            );
        }
    }
}

/// The answer, and the attempt that was accepted.
async fn call(arena: &Arena, gateway: usize, deadline: Duration, instance: &str, eni: &str) -> (Told, String) {
    let request = within(deadline, attach(instance, eni));
    let client = arena.gateways[gateway].client();
    let calling = try_attach(&client, request);
    // A process that stands still answers nobody, and the client's own timer strikes a little later.
    let told = match tokio::time::timeout(deadline + Duration::from_millis(500), calling).await {
        Ok(Ok(attachment)) => return (Told::Accepted, attachment.uid),
        Err(_) => Told::Nothing,
        Ok(Err((status, details))) => match details.error_info() {
            None => Told::Nothing,
            Some(info) => told(arena, &info.reason, info.metadata.contains_key("ensCode"), &status),
        },
    };
    (told, String::new())
}

/// The same through another client, which keeps the deadline itself.
async fn call_by(
    client: &mut Foreign,
    arena: &Arena,
    gateway: usize,
    deadline: Duration,
    instance: &str,
    eni: &str,
) -> (Told, String) {
    let target = arena.gateways[gateway].target();
    let call = python::within(deadline.as_secs_f64(), python::attach(&target, instance, eni));
    let answer = client.call_one(call).await;
    if answer["code"] == "OK" {
        let uid = answer["response"]["attachment"]["uid"].as_str().unwrap_or_default();
        return (Told::Accepted, uid.to_owned());
    }
    let by_ens = !answer["details"]["ErrorInfo"]["metadata"]["ensCode"].is_null();
    let told = match answer["reason"].as_str() {
        None => Told::Nothing,
        Some(reason) => told(arena, reason, by_ens, &answer),
    };
    (told, String::new())
}

fn told(arena: &Arena, reason: &str, by_ens: bool, answer: &impl std::fmt::Debug) -> Told {
    match Reason::named(reason) {
        Some(reason) => Told::Refused { reason, by_ens },
        None => {
            arena.finding(Finding::Wrong, format!("an unknown reason: {answer:?}"));
            Told::Nothing
        }
    }
}

/// How many attaches took effect and lasted: of one that ENS took back nobody need have known.
const fn lasting(ledger: PairBook) -> u64 {
    ledger.applied - ledger.failed
}

/// Whether a caller gives up at this answer.
fn is_final(reason: Reason) -> bool {
    let retried = matches!(reason, Reason::EnsThrottled)
        || reason.send_effect() == SendEffect::Nothing
        || reason.send_effect() == SendEffect::Unknown;
    !retried || reason.retry_advice() == RetryAdvice::AfterChange
}

/// The instances that one ENI goes to: five of its own, as far as there are so many, and two crowded ones.
pub(crate) fn homes(number: usize, instances: usize, crowded: usize) -> Vec<String> {
    let own = crowded..instances;
    let own = [0, 11, 23, 41, 67].map(|step| own.start + (number + step) % own.len());
    let crowds = [0, 1].map(|step| (number + step) % crowded);
    let homes: BTreeSet<usize> = own.into_iter().chain(crowds).collect();
    homes.into_iter().map(|index| format!("i-{index}")).collect()
}
