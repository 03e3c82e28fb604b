//! The files that may change at run time: one loop reads them again.
//!
//! A new file replaces what is in force. A bad one does not: it is logged once, and a metric shows
//! it until it is corrected. Mounted ConfigMaps and Secrets change by a symbolic link, so the
//! content is compared, not the file's time.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::error::with_causes;
use crate::drain::{self, Phase};
use crate::grpc::Tls;
use crate::policy::PolicyStore;
use crate::telemetry::{LogFilter, Metrics};

/// Interval between checks of the files.
const INTERVAL: Duration = Duration::from_secs(2);

/// The files, each with the setting that names it.
pub(super) struct Reloader {
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) policy: Option<Arc<PolicyStore>>,
    pub(super) log_filter: Option<LogFilter>,
    pub(super) metrics: Metrics,
}

impl Reloader {
    /// Reads the files again until [`Phase::Stopped`].
    pub(super) async fn run(self, drain: drain::Watch) {
        let mut faults = FileFaults::default();
        while !drain.has_reached(Phase::Stopped) {
            if let Some(tls) = &self.tls {
                let result = tls.reload().await;
                faults.report(&self.metrics, "grpc.tls_cert_file", result);
            }
            if let Some(policy) = &self.policy {
                let result = policy.reload().await;
                faults.report(&self.metrics, "identity.policy_file", result);
            }
            if let Some(filter) = &self.log_filter {
                let result = filter.reload().await;
                faults.report(&self.metrics, "log.filter_file", result);
            }
            drain.pause(INTERVAL).await;
        }
    }
}

/// Refreshes the keys of the policy's issuers until [`Phase::Stopped`]. Apart from the files,
/// because an issuer may answer slowly.
pub(super) async fn refresh_keys(policy: Arc<PolicyStore>, metrics: Metrics, drain: drain::Watch) {
    let mut faults = FileFaults::default();
    let mut seen = policy.tokens().withdrawals();
    while !drain.has_reached(Phase::Stopped) {
        let tokens = policy.tokens();
        if tokens.are_used() {
            faults.report(&metrics, "issuers", tokens.refresh().await);
            // A call with an unknown key may have fetched them.
            let withdrawals = tokens.withdrawals();
            if std::mem::replace(&mut seen, withdrawals) != withdrawals {
                policy.recheck();
            }
        }
        drain.pause(INTERVAL).await;
    }
}

/// The fault of each file, so that it is logged once.
#[derive(Default)]
struct FileFaults(BTreeMap<&'static str, String>);

impl FileFaults {
    /// Shows the result of reading a setting's file again; whether it had changed.
    fn report<E: Error>(
        &mut self,
        metrics: &Metrics,
        setting: &'static str,
        result: Result<bool, E>,
    ) {
        let fault = result.as_ref().err().map(|error| with_causes(error));
        metrics.set_reload_failing(setting, fault.is_some());
        if result.is_ok_and(|changed| changed) {
            tracing::info!(setting, "a changed file is in force");
        }
        if let Some(fault) = self.news(setting, fault) {
            tracing::warn!(
                setting,
                error = fault,
                "a changed file is invalid, and the one before stays in force"
            );
        }
    }

    /// The fault of this setting's file, if it is another than before.
    fn news(&mut self, setting: &'static str, fault: Option<String>) -> Option<String> {
        let before = match &fault {
            Some(fault) => self.0.insert(setting, fault.clone()),
            None => self.0.remove(setting),
        };
        fault.filter(|fault| before.as_ref() != Some(fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_news_once() {
        let mut faults = FileFaults::default();
        let mut news = |fault: Option<&str>| faults.news("a", fault.map(str::to_owned)).is_some();
        assert_eq!(
            [None, Some("x"), Some("x"), Some("y"), None, Some("y")].map(&mut news),
            [false, true, false, true, false, true]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_file_shows_in_the_metric_until_it_is_corrected() {
        let directory = tempfile::TempDir::new().expect("a directory");
        let path = directory.path().join("policy.toml");
        let good = "version = 1\n[[allow]]\nid = 'a'\ncallers = ['*']\nactions = ['*']\n\
                    instances = ['*']\n";
        std::fs::write(&path, good).expect("written");
        let store = Arc::new(PolicyStore::load(path.clone()).await.expect("valid"));
        let metrics = Metrics::new("0", "test").expect("metrics");
        let signal = drain::Signal::default();
        let reloader = Reloader {
            tls: None,
            policy: Some(store.clone()),
            log_filter: None,
            metrics: metrics.clone(),
        };
        let failing = || {
            let text = metrics.exposition().expect("it can be written");
            let line = text.lines().find(|line| line.starts_with("eni_gateway_reload_failing{"));
            line.map(|line| line.ends_with(" 1"))
        };
        let reads = async {
            for (text, expected) in
                [(good, false), ("version = 2", true), (&good.replace("'a'", "'b'"), false)]
            {
                std::fs::write(&path, text).expect("written");
                while failing() != Some(expected) {
                    tokio::time::sleep(INTERVAL).await;
                }
            }
            signal.enter(Phase::Stopped);
        };
        tokio::join!(reloader.run(signal.watch()), reads);
        assert_eq!(&*store.current().rules()[0].id, "b");
    }
}
