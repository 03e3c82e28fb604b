//! The precedence of sources, and the form of values in each.

use eni_gateway::config::{SettingOrigin, load};

use super::sources;

const FILE: &str = "[ledger]\nurl = 'redis://file'\nprefix = 'file:'\n[limit]\nenis_per_instance = 7\n[watch]\nheartbeat = '20s'\n";

#[test]
fn flags_win_over_the_environment_over_the_file_over_defaults() {
    let (sources, dir) = sources(
        Some(FILE),
        &[("ENI_GATEWAY_LEDGER__PREFIX", "env:"), ("ENI_GATEWAY_LIMIT__ENIS_PER_INSTANCE", "8")],
    );
    let loaded = load(sources.flag("--limit", "limit.enis_per_instance", Some(9)))
        .expect("it has no faults");
    let config = &loaded.config;
    assert_eq!(config.ledger.url.to_string(), "redis://file:6379/0");
    assert_eq!(config.ledger.prefix, "env:");
    assert_eq!(config.limit.enis_per_instance, 9);
    assert_eq!(config.tracker.stuck_after.as_secs(), 300);

    let origins = &loaded.origins;
    assert_eq!(
        *origins.of("ledger.url"),
        SettingOrigin::File { path: dir.path().join("gateway.toml"), line: 2 }
    );
    assert_eq!(
        *origins.of("ledger.prefix"),
        SettingOrigin::Environment("ENI_GATEWAY_LEDGER__PREFIX".to_owned())
    );
    assert_eq!(*origins.of("limit.enis_per_instance"), SettingOrigin::Flag("--limit".to_owned()));
    assert_eq!(*origins.of("tracker.stuck_after"), SettingOrigin::Default);
}

#[test]
fn the_environment_alone_is_enough_and_digits_stay_text() {
    let (sources, _dir) = sources(
        None,
        &[
            ("ENI_GATEWAY_LEDGER__URL", "redis://:0123@localhost"),
            ("ENI_GATEWAY_LEDGER__PREFIX", "0042"),
            ("ENI_GATEWAY_PORT", "tcp://10.0.0.1:50051"),
            ("ENI_GATEWAY_SERVICE_HOST", "10.0.0.1"),
            ("ENI_GATEWAY_GRPC__TLS_CERT_FILE", ""),
        ],
    );
    let loaded = load(sources).expect("it has no faults");
    assert_eq!(loaded.config.ledger.prefix, "0042");
    assert!(loaded.config.grpc.tls_cert_file.is_none());
    assert!(loaded.config.ledger.url.has_password());
}

#[test]
fn the_environment_of_this_very_process_is_accepted() {
    let environment = std::env::vars().collect();
    let (sources, _dir) = sources(None, &[]);
    let sources = eni_gateway::config::Sources { environment, ..sources };
    load(sources.flag("--ledger", "ledger.url", Some("memory://"))).expect("it has no faults");
}

#[test]
fn a_password_on_the_command_line_is_refused_and_not_repeated() {
    let (sources, dir) = sources(None, &[]);
    let report = super::report(
        sources.flag("--ledger", "ledger.url", Some("redis://:hunter2@localhost")),
        &dir,
    );
    assert!(report.contains("command line") && !report.contains("hunter2"), "{report}");
}
