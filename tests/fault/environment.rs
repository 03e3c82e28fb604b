//! One ledger with its gateways, callers and watchers over one simulated ENS, and the violations
//! found.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use eni_gateway::app;
use eni_gateway::config::value::Value as _;
use eni_gateway::config::{Config, LedgerUrl};
use eni_gateway::ledger::SafetyCheck;
use eni_gateway::ledger::invariants::world::within_limit;
use rand::prelude::*;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::counters::Counters;
use crate::ens_truth::EnsTruth;
use crate::episode::Violation;
use crate::gateway::{self, Client, Gateway};
use crate::ledger::{Form, REPLICAS, Servers};
use crate::other_programs::{EXTERNAL, SHARED};
use crate::support::clock::Clock;
use crate::support::gateway::{Stage, eni, get};
use crate::support::link::Link;
use crate::waits::Waits;

pub(crate) const GATEWAYS: usize = 3;
/// Instances that all callers go to.
pub(crate) const CROWDED: usize = 4;
pub(crate) const LIMIT: usize = 3;

/// Every bound is short, so that there is time for many faults. A recovery hold-down takes 19.5 s,
/// and a grace period 13.5 s.
const SETTINGS: [(&str, &str); 9] = [
    ("ENS__VISIBILITY_LAG", "1500ms"),
    ("ENS__REQUEST_VALIDITY", "12s"),
    ("ENS__ENFORCE_VALIDITY", "true"),
    ("LEDGER__FRESH", "false"),
    ("LIMIT__ENIS_PER_INSTANCE", "3"),
    ("WATCH__HEARTBEAT", "2s"),
    ("GRPC__DRAIN_DELAY", "300ms"),
    ("GRPC__DRAIN_TIMEOUT", "8s"),
    ("RUST_LOG", "warn,eni_gateway::audit=info"),
];

/// How long a gateway may still show what the ledger has lost.
const SHOWN_LATE: Duration = Duration::from_secs(60);
/// When nothing can come late any more.
const CALM: Duration = Duration::from_secs(15);

pub(crate) struct Environment {
    pub(crate) form: Form,
    pub(crate) seed: u64,
    pub(crate) instances: usize,
    pub(crate) callers: usize,
    pub(crate) python: bool,
    pub(crate) stage: Stage,
    pub(crate) servers: tokio::sync::Mutex<Servers>,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) waits: Waits,
    pub(crate) ens_truth: EnsTruth,
    pub(crate) counters: Counters,
    _clocks: TempDir,
    began: Instant,
    ending: CancellationToken,
    ended: CancellationToken,
    over: CancellationToken,
    lost: Mutex<Option<Instant>>,
    rolled_back: Mutex<Option<Instant>>,
    other_clock: Mutex<Option<Instant>>,
    violations: Mutex<Vec<(Violation, String)>>,
}

/// What an environment is to be.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) form: Form,
    pub(crate) seed: u64,
    pub(crate) instances: usize,
    pub(crate) callers: usize,
    pub(crate) without: Option<SafetyCheck>,
    /// There is a Python with grpcio.
    pub(crate) python: bool,
}

impl Environment {
    pub(crate) async fn start(plan: &Plan) -> Arc<Self> {
        let clocks = TempDir::new().unwrap();
        let servers = Servers::start(plan.form, &mut StdRng::seed_from_u64(plan.seed + 97)).await;
        let url = servers.url();
        init(&url, plan.form).await;
        let names: Vec<String> = (0..plan.instances).map(|number| format!("i-{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        // One more for faults at an exact moment, and those of other programs.
        let mut stage = Stage::over_many(url, &names, plan.callers + 1 + EXTERNAL).await;
        stage.ens.world(|world, _| {
            let mut rules = world.rules().clone();
            rules.attach_time = "20ms..600ms".parse().unwrap();
            rules.detach_time = "20ms..200ms".parse().unwrap();
            rules.lag_by_id = "0ms..900ms".parse().unwrap();
            rules.lag_by_instance = "0ms..900ms".parse().unwrap();
            world.set_rules(rules);
        });
        let mut settings: Vec<(&str, String)> =
            SETTINGS.map(|(name, value)| (name, value.to_owned())).into();
        if plan.form == Form::Synced {
            settings.push(("LEDGER__SYNC_REPLICAS", REPLICAS.to_string()));
        }
        if let Some(rule) = plan.without {
            stage.program = std::env::current_exe().unwrap();
            settings.push((gateway::WITHOUT, format!("{rule:?}")));
        }
        let mut gateways = Vec::new();
        for number in 0..GATEWAYS {
            let link = match servers.port() {
                Some(port) => Some(Link::to(port).await),
                None => None,
            };
            let clock = Clock::new(clocks.path().join(number.to_string()));
            gateways.push(Gateway::start(&stage, settings.clone(), link, clock));
        }
        for gateway in &gateways {
            gateway.ready().await;
        }
        let began = Instant::now();
        Arc::new(Self {
            form: plan.form,
            seed: plan.seed,
            instances: plan.instances,
            callers: plan.callers,
            python: plan.python,
            stage,
            servers: tokio::sync::Mutex::new(servers),
            gateways,
            waits: Waits::new(began),
            ens_truth: EnsTruth::default(),
            counters: Counters::default(),
            _clocks: clocks,
            began,
            ending: CancellationToken::new(),
            ended: CancellationToken::new(),
            over: CancellationToken::new(),
            lost: Mutex::default(),
            rolled_back: Mutex::default(),
            other_clock: Mutex::default(),
            violations: Mutex::default(),
        })
    }

    pub(crate) fn any(&self, random: &mut StdRng) -> usize {
        random.random_range(0..self.gateways.len())
    }

    pub(crate) fn client(&self, random: &mut StdRng) -> Client {
        self.gateways[self.any(random)].client()
    }

    /// Time since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Callers begin nothing new.
    pub(crate) fn end(&self) {
        self.ending.cancel();
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_cancelled()
    }

    /// No caller waits any more.
    pub(crate) fn callers_ended(&self) {
        self.ended.cancel();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Waits until nothing can come late any more.
    pub(crate) async fn calm(&self) {
        self.ending.cancelled().await;
        sleep(CALM).await;
    }

    /// Everybody leaves.
    pub(crate) fn leave(&self) {
        self.over.cancel();
    }

    pub(crate) async fn left(&self) {
        self.over.cancelled().await;
    }

    /// The ledger loses what was accepted.
    pub(crate) fn record_loss(&self) {
        *self.lost.lock().unwrap() = Some(Instant::now());
        self.record_rollback();
    }

    /// The ledger loses its newest writes, but nothing that it waited for.
    pub(crate) fn record_rollback(&self) {
        *self.rolled_back.lock().unwrap() = Some(Instant::now());
    }

    /// Another clock than the one before may go by the ledger's records from now on.
    pub(crate) fn record_other_clock(&self) {
        *self.other_clock.lock().unwrap() = Some(Instant::now());
    }

    pub(crate) fn had_other_clock_since(&self, then: Instant) -> bool {
        self.other_clock.lock().unwrap().is_some_and(|at| at >= then)
    }

    pub(crate) fn has_lost_since(&self, began: Instant) -> bool {
        let lost = *self.lost.lock().unwrap();
        // A replica may take the place of a paused primary a while after that one continues.
        lost.is_some_and(|at| at + Duration::from_secs(15) >= began)
    }

    pub(crate) fn rolled_back_lately(&self) -> bool {
        let at = *self.rolled_back.lock().unwrap();
        at.is_some_and(|at| at.elapsed() < SHOWN_LATE)
    }

    pub(crate) fn violation(&self, violation: Violation, what: String) {
        let line = format!("{}: {what}", self.form);
        eprintln!("{:>7.1} s  FOUND {violation:?}: {line}", self.elapsed().as_secs_f64());
        self.violations.lock().unwrap().push((violation, line));
    }

    /// What ENS saw of a pair lately, and what the gateways that run now logged of it.
    pub(crate) async fn traces(&self, instance: &str, eni: &str) -> Vec<String> {
        let mut lines = self.stage.ens.world(|world, now| {
            // ENS's world is a little older than the run.
            let older = Duration::from_millis(world.millis(now)).saturating_sub(self.elapsed());
            let at = |ms| Duration::from_millis(ms).saturating_sub(older);
            let calls = world.journal().calls.iter();
            let about = calls.filter(|call| match call.instance.as_deref() {
                Some(named) => {
                    named == instance
                        && (call.enis.is_empty() || call.enis.iter().any(|it| it == eni))
                }
                None => call.enis.iter().any(|it| it == eni),
            });
            about
                .map(|call| {
                    let (from, until) = (at(call.at_ms), at(call.until_ms));
                    let applied = if call.applied { ", applied" } else { "" };
                    format!(
                        "{from:.1?} to {until:.1?} ens {}: {}{applied}",
                        call.action, call.outcome
                    )
                })
                .collect::<Vec<_>>()
        });
        for (number, gateway) in self.gateways.iter().enumerate() {
            let logged = gateway.lines_about(instance, eni).await;
            lines.extend(logged.into_iter().map(|line| format!("gateway {number}: {line}")));
        }
        let client = self.gateways[0].client();
        if let Ok(Ok(record)) = timeout(Duration::from_secs(1), get(&client, instance, eni)).await {
            lines.push(format!("now {record:?}"));
        }
        lines
    }

    pub(crate) fn violations(&self) -> Vec<(Violation, String)> {
        self.violations.lock().unwrap().clone()
    }

    /// L1: reads the journal of ENS until the callers leave. Each instance is reported once.
    pub(crate) async fn watch_limit(self: Arc<Self>) {
        let mut most = vec![LIMIT; self.instances];
        while !self.over.is_cancelled() {
            for (number, most) in most.iter_mut().enumerate() {
                let instance = format!("i-{number}");
                let held = if SHARED.contains(&number) {
                    self.held_by_gateways(&instance)
                } else {
                    self.stage.ens.world(|world, _| {
                        world
                            .journal()
                            .instances
                            .get(&instance)
                            .map_or(0, |ledger| ledger.max_occupied)
                    })
                };
                if !within_limit(held, *most) {
                    *most = held;
                    self.violation(
                        Violation::Invariant,
                        format!("L1: {instance} held {held} enis, and its limit is {LIMIT}"),
                    );
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Observes which ENIs are in use.
    pub(crate) fn observe(&self) {
        // The last ones are those of other programs.
        let all = self.callers + 1 + EXTERNAL;
        self.ens_truth.observe(&self.stage.ens, (1..=all).map(eni));
    }

    /// Whether other programs attach this ENI.
    pub(crate) fn is_external(&self, id: &str) -> bool {
        (1..=EXTERNAL).any(|number| eni(self.callers + 1 + number) == id)
    }

    /// Observes which ENIs are in use until the run ends.
    pub(crate) async fn watch_ens(self: Arc<Self>) {
        while !self.is_ending() {
            self.observe();
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// ENIs that stand on an instance now, but for those that other programs attached: only what
    /// they did is excused.
    fn held_by_gateways(&self, instance: &str) -> usize {
        self.stage.ens.world(|world, _| {
            let external = (1..=EXTERNAL).map(|number| eni(self.callers + 1 + number));
            let theirs =
                external.filter(|eni| world.placement(eni).is_some_and(|at| at.occupies(instance)));
            world.occupied(instance) - theirs.count()
        })
    }

    /// Whether a gateway's own checks found a violation.
    pub(crate) async fn ask_gateway(&self, number: usize) {
        let found = self.gateways[number].violations_logged().await;
        if found > 0 {
            self.violation(
                Violation::Invariant,
                format!("gateway {number} found {found} invariants broken"),
            );
        }
    }
}

/// Says that the ledger is new.
async fn init(url: &str, form: Form) {
    let mut config = Config::with_ledger(LedgerUrl::parse(url).unwrap());
    config.limit.enis_per_instance = LIMIT;
    if form == Form::Synced {
        config.ledger.sync_replicas = REPLICAS;
    }
    app::init_ledger(&config).await.unwrap();
}
