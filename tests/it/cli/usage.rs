//! Arguments, help, version, completions.

use super::run;

#[rstest::rstest]
#[case(&[], "Usage: eni-gateway")]
#[case(&["attach"], "<INSTANCE>")]
#[case(&["attach", "i-1", "eni 1"], "may have only letters, digits")]
#[case(&["attach", "", "eni-1"], "must not be empty")]
#[case(&["attach", "i-1", "eni-1", "--request-id", "7"], "--request-id")]
#[case(&["attach", "i-1", "eni-1", "--watch", "--validate-only"], "cannot be used with")]
#[case(&["attach", "i-1", "eni-1", "--timeout", "soon"], "--timeout")]
#[case(&["attach", "i-1", "eni-1", "--timeout", "99999999d"], "must be at most a year")]
#[case(&["watch", "i-1", "--timeout", "500000000000y"], "must be at most a year")]
#[case(&["list", "i-1", "-o", "yaml"], "[possible values: table, json]")]
#[case(&["list", "i-1", "--cert", "c.pem"], "--key")]
#[case(&["detach", "i-1"], "unrecognized subcommand")]
#[case(&["policy", "check", "p.toml", "--caller", "web", "--instance", "i-1"], "spiffe://")]
#[case(&["policy", "check", "/nowhere/p.toml"], "cannot be read")]
#[tokio::test]
async fn wrong_usage_is_64(#[case] arguments: &[&str], #[case] problem: &str) {
    let ran = run(arguments).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (64, ""), "{ran:?}");
    assert!(ran.stderr.contains(problem), "{ran:?}");
}

#[rstest::rstest]
#[case::top(&["--help"])]
#[case::attach(&["attach", "--help"])]
#[case::watch(&["watch", "--help"])]
#[case::get(&["get", "--help"])]
#[case::list(&["list", "--help"])]
#[case::capacity(&["capacity", "--help"])]
#[case::completions(&["completions", "--help"])]
#[case::serve(&["serve", "--help"])]
#[case::demo(&["demo", "--help"])]
#[case::check(&["check", "--help"])]
#[case::config(&["config", "dump", "--help"])]
#[case::ledger_init(&["ledger", "init", "--help"])]
#[case::ledger_freeze(&["ledger", "freeze", "--help"])]
#[case::ledger_unfreeze(&["ledger", "unfreeze", "--help"])]
#[case::policy(&["policy", "check", "--help"])]
#[case::explain(&["explain", "--help"])]
#[case::simulator(&["simulator", "--help"])]
#[tokio::test]
async fn help_has_examples(#[case] arguments: &[&str]) {
    let ran = run(arguments).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(arguments.len() == 1 || ran.stdout.contains("Examples:\n  eni-gateway "));
    // A terminal would break a longer line in two, and a shell would run the halves.
    let examples = ran.stdout.split_once("Examples:\n").map_or("", |(_, examples)| examples);
    let long: Vec<_> = examples
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.len() > 80)
        .collect();
    assert_eq!(long, [""; 0]);
    let command = match arguments {
        [command @ .., _] if !command.is_empty() => command.join("_"),
        _ => "help".to_owned(),
    };
    insta::assert_snapshot!(format!("help_of_{command}"), ran.stdout);
}

#[tokio::test]
async fn the_version_tells_the_commit() {
    let ran = run(&["--version"]).await;
    assert_eq!(ran.code, 0);
    let expected =
        format!("eni-gateway {} ({})\n", env!("CARGO_PKG_VERSION"), env!("ENI_GATEWAY_COMMIT"));
    assert_eq!(ran.stdout, expected);
}

/// Only a build for mutation tests can switch a safety check off, and its version names it.
#[tokio::test]
async fn a_plain_build_has_no_mutations() {
    let ran = run(&["--version"]).await;
    assert!(!ran.stdout.contains("mutations"), "{}", ran.stdout);
}

#[tokio::test]
async fn completions_know_the_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = run(&["completions", shell]).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert!(ran.stdout.contains("validate-only"), "{shell}");
    }
}

#[tokio::test]
async fn a_reader_who_has_seen_enough_is_no_failure() {
    for arguments in [&["completions", "zsh"][..], &["--help"], &["--version"]] {
        let ran = super::run_unread(arguments).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
    }
}
