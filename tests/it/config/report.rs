//! All faults are reported at once.

use super::{report, sources};

const FILE: &str = "
[grpc]
listen = '0.0.0.0:50051'
tls_key_file = '/nowhere/key.pem'

[ledger]
prefix = 'a{b}'
passwrod_file = '/run/secrets/redis'
fresh = 'maybe'

[limits]
enis_per_instance = 10

[ens]
endpoint = 'http://user:hunter2@ens.example'
attempt_timeout = '20s'
visibility_lag = 10

[watch]
heartbeat = ['15s']
";

#[test]
fn every_fault_is_named_with_its_origin_and_remedy() {
    let (sources, dir) = sources(
        Some(FILE),
        &[
            ("ENI_GATEWAY_LEDGER__URL", "redis-sentinel://:hunter2@a,b?master=main"),
            ("ENI_GATEWAY_LEDGER__SYNC_REPLICAS", "-1"),
            ("ENI_GATEWAY_GRPC_LISTEN", "127.0.0.1:1"),
            ("ENI_GATEWAY_LEDGER__PASSWORD", "hunter2"),
            ("ENI_GATEWAY_ENS__ATTACH_PER_SECOND", "0"),
        ],
    );
    let report = report(sources.flag("--stuck", "tracker.stuck_after", Some("10s")), &dir);
    assert!(!report.contains("hunter2"), "{report}");
    insta::assert_snapshot!(report);
}

#[test]
fn nothing_said_at_all_names_the_one_setting_that_must_be() {
    let (sources, dir) = sources(None, &[]);
    insta::assert_snapshot!(report(sources, &dir));
}

#[test]
fn a_relation_is_not_judged_by_a_value_that_could_not_be_read() {
    let (sources, dir) = sources(
        None,
        &[
            ("ENI_GATEWAY_LEDGER__URL", "memory://"),
            ("ENI_GATEWAY_LEDGER__LEASE", "fifteen"),
            ("ENI_GATEWAY_ENS__ATTEMPT_TIMEOUT", "14s"),
        ],
    );
    let report = report(sources, &dir);
    assert!(
        report.starts_with("the configuration has 1 fault:") && report.contains("fifteen"),
        "{report}"
    );
}
