//! `config dump`: its content, and that it can be loaded again.

use eni_gateway::config::{Faults, Sources, dump::dump, load, read};

use super::{report, sources};

fn shown(sources: Sources) -> String {
    dump(&load(sources).expect("it has no faults"), &Faults::default())
}

#[test]
fn the_effective_configuration_is_shown_with_its_origins_and_without_secrets() {
    let (sources, dir) = sources(
        Some(
            "[ledger]\nurl = 'redis://user:hunter2@redis.example'\n[watch]\nheartbeat = '1m 30s'\n",
        ),
        &[("ENI_GATEWAY_LIMIT__ENIS_PER_INSTANCE", "4")],
    );
    let text = shown(sources).replace(&dir.path().display().to_string(), "/etc");
    assert!(!text.contains("hunter2"));
    insta::assert_snapshot!(text);
}

#[test]
fn a_dump_is_a_configuration() {
    let (first, _dir) = sources(
        None,
        &[("ENI_GATEWAY_LEDGER__URL", "memory://"), ("ENI_GATEWAY_LEDGER__PREFIX", "a\"b\\")],
    );
    let first = shown(first);
    let (second, _dir) = sources(Some(&first), &[]);
    let second = shown(second);
    let values = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split(" # ").next().unwrap_or("").to_owned())
            .collect()
    };
    assert_eq!(values(&first), values(&second));
}

#[test]
fn without_the_ledgers_url_the_rest_is_shown() {
    let (nothing, _dir) = sources(None, &[]);
    let (loaded, faults) = read(nothing);
    assert!(faults.only_unset(), "{faults}");
    let text = dump(&loaded, &faults);
    let line = text.lines().find(|line| line.contains("url = ")).expect("it has a line");
    assert!(line.starts_with("# url = \"\"  # wrong: is not set"), "{line}");
    assert!(text.contains("\nlease = \"15s\" # default\n"), "{text}");

    let (bad, _dir) = sources(None, &[("ENI_GATEWAY_LEDGER__LEASE", "soon")]);
    let (loaded, faults) = read(bad);
    assert!(!faults.only_unset());
    let text = dump(&loaded, &faults);
    assert!(text.contains("# lease = \"\"  # wrong: \"soon\" is not a duration"), "{text}");
}

#[test]
fn a_mask_is_no_password() {
    let (sources, dir) = sources(Some("[ledger]\nurl = 'redis://user:***@redis.example/0'"), &[]);
    let report = report(sources, &dir);
    assert!(
        report.contains("ledger.url (/etc/gateway.toml:2): its password is ***, the mask of")
            && report.contains("ledger.password_file"),
        "{report}"
    );
}

#[test]
fn an_empty_file_is_no_password() {
    let (sources, dir) = sources(Some("[ledger]\nurl = 'redis://redis.example'"), &[]);
    let empty = dir.path().join("password");
    std::fs::write(&empty, "\n").expect("it can be written");
    let report =
        report(sources.flag("--file", "ledger.password_file", Some(empty.display())), &dir);
    assert!(
        report.contains("ledger.password_file (flag --file): /etc/password is empty"),
        "{report}"
    );
}
