//! `config dump`: its content, and that it can be loaded again.

use eni_gateway::config::{dump::dump, load};

use super::sources;

#[test]
fn the_effective_configuration_is_shown_with_its_origins_and_without_secrets() {
    let (sources, dir) = sources(
        Some(
            "[ledger]\nurl = 'redis://user:hunter2@redis.example'\n[watch]\nheartbeat = '1m 30s'\n",
        ),
        &[("ENI_GATEWAY_LIMIT__ENIS_PER_INSTANCE", "4")],
    );
    let text = dump(&load(sources).expect("it has no faults"))
        .replace(&dir.path().display().to_string(), "/etc");
    assert!(!text.contains("hunter2"));
    insta::assert_snapshot!(text);
}

#[test]
fn a_dump_is_a_configuration() {
    let (first, _dir) = sources(
        None,
        &[("ENI_GATEWAY_LEDGER__URL", "memory://"), ("ENI_GATEWAY_LEDGER__PREFIX", "a\"b\\")],
    );
    let first = dump(&load(first).expect("it has no faults"));
    let (second, _dir) = sources(Some(&first), &[]);
    let second = dump(&load(second).expect("a dump has no faults"));
    let values = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split(" # ").next().unwrap_or("").to_owned())
            .collect()
    };
    assert_eq!(values(&first), values(&second));
}
