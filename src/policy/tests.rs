use rstest::rstest;

use super::*;
use crate::identity::{Kind, Principal};
use crate::model::Caller;

const POLICY: &str = r#"
version = 1
trust_domains = ["prod.example"]

[[forbid]]
id = "frozen"
callers = ["*"]
actions = ["attach"]
instances = ["i-frozen-*"]

[[forbid]]
id = "secret-eni"
callers = ["dns:*"]
actions = ["*"]
instances = ["*"]
interfaces = ["eni-secret"]

[[allow]]
id = "web"
callers = ["spiffe://prod.example/*"]
kinds = ["spiffe"]
namespaces = ["web"]
actions = ["attach", "watch", "get", "list"]
instances = ["i-web-*", "i-frozen-1"]

[[allow]]
id = "one-eni"
callers = ["dns:robot.example"]
actions = ["*"]
instances = ["i-1"]
interfaces = ["eni-1", "eni-secret"]

[[allow]]
id = "readers"
callers = ["dns:*.readers.example"]
actions = ["get", "list", "watch"]
instances = ["*"]

[[allow]]
id = "dry-runs"
callers = ["dns:*.readers.example"]
actions = ["attach"]
instances = ["*"]
validate_only = true

[[allow]]
id = "group"
callers = ["*"]
issuers = ["corp"]
groups = ["net-*"]
actions = ["list"]
instances = ["*"]
"#;

fn policy() -> Policy {
    Policy::parse(POLICY).expect("valid")
}

fn principal(name: &str) -> Principal {
    let kind = match name {
        "anonymous" => Kind::Anonymous,
        name if name.starts_with("spiffe") => Kind::Spiffe,
        name if name.starts_with("cluster:") => Kind::Token,
        _ => Kind::Dns,
    };
    let namespace = if name.contains("/ns/web/") { "web" } else { "" };
    let (issuer, groups) = match name {
        "dns:operator" => ("corp", vec!["staff".to_owned(), "net-admins".to_owned()]),
        _ if kind == Kind::Token => ("cluster", vec!["net-ops".to_owned()]),
        _ if kind == Kind::Spiffe => (name.split('/').nth(2).unwrap_or_default(), Vec::new()),
        _ => ("", Vec::new()),
    };
    Principal {
        name: Caller(name.into()),
        kind,
        issuer: issuer.to_owned(),
        namespace: namespace.to_owned(),
        groups,
        ..Principal::anonymous()
    }
}

const WEB: &str = "spiffe://prod.example/ns/web/sa/api";
const READER: &str = "dns:a.readers.example";

#[rstest]
#[case::allowed(WEB, "attach i-web-1 eni-1", "+web")]
#[case::whole_instance(WEB, "list i-web-1", "+web")]
#[case::other_instance(WEB, "attach i-db-1 eni-1", "-")]
#[case::other_namespace("spiffe://prod.example/ns/db/sa/api", "attach i-web-1 eni-1", "-")]
#[case::forbid_wins(WEB, "attach i-frozen-1 eni-1", "-frozen")]
#[case::forbid_is_for_its_action(WEB, "get i-frozen-1 eni-1", "+web")]
#[case::its_eni("dns:robot.example", "attach i-1 eni-1", "+one-eni")]
#[case::another_eni("dns:robot.example", "attach i-1 eni-2", "-")]
#[case::forbidden_eni("dns:robot.example", "attach i-1 eni-secret", "-secret-eni")]
#[case::a_scope_with_a_forbidden_eni("dns:robot.example", "watch i-1", "-secret-eni")]
#[case::a_scope_beyond_its_eni("spiffe://prod.example/robot", "list i-1", "-")]
#[case::read(READER, "get i-9 eni-9", "+readers")]
#[case::no_write(READER, "attach i-9 eni-9", "-")]
#[case::dry_run(READER, "validate i-9 eni-9", "+dry-runs")]
#[case::group("dns:operator", "list i-9", "-secret-eni")]
#[case::anonymous("anonymous", "get i-9 eni-9", "-")]
fn each_call_is_decided_by_one_rule(#[case] caller: &str, #[case] call: &str, #[case] by: &str) {
    let words: Vec<&str> = call.split(' ').collect();
    let validate_only = words[0] == "validate";
    let eni = words.get(2).map(|eni| eni.parse().expect("an id"));
    let decision = policy().decide(&AccessRequest {
        principal: &principal(caller),
        action: if validate_only { Action::Attach } else { Action::named(words[0]).expect("one") },
        instance: &words[1].parse().expect("an id"),
        eni: eni.as_ref(),
        validate_only,
    });
    let sign = if decision.is_allowed() { "+" } else { "-" };
    assert_eq!(format!("{sign}{}", decision.rule().unwrap_or_default()), by);
}

#[rstest]
#[case::some_instances(WEB, "watch", "+web")]
#[case::all_instances(READER, "list", "+readers")]
#[case::one_eni_only("dns:robot.example", "list", "-")]
#[case::another_action(WEB, "capacity", "-")]
#[case::another_trust_domain("spiffe://evil.example/ns/web/sa/api", "list", "-")]
#[case::anonymous("anonymous", "list", "-")]
fn a_call_for_all_instances_needs_a_rule_for_whole_ones(
    #[case] caller: &str,
    #[case] action: &str,
    #[case] by: &str,
) {
    let action = Action::named(action).expect("one");
    let decision = policy().decide_fleet(&principal(caller), action);
    let sign = if decision.is_allowed() { "+" } else { "-" };
    assert_eq!(format!("{sign}{}", decision.rule().unwrap_or_default()), by);
}

#[test]
fn groups_and_issuers_are_conditions() {
    let without_forbid = POLICY.replace("callers = [\"dns:*\"]", "callers = [\"dns:robot*\"]");
    let policy = Policy::parse(&without_forbid).expect("valid");
    let decide = |caller: &str| {
        let (principal, instance) = (principal(caller), "i-9".parse().expect("an id"));
        let action = Action::List;
        let (instance, principal) = (&instance, &principal);
        let request =
            AccessRequest { principal, action, instance, eni: None, validate_only: false };
        policy.decide(&request).rule().map(str::to_owned)
    };
    assert_eq!(decide("dns:operator").as_deref(), Some("group"));
    assert_eq!(decide("dns:stranger"), None);
}

#[test]
fn a_rule_for_all_callers_is_for_those_with_a_known_identity() {
    let all = "version = 1\ntrust_domains = ['prod.example']\n[[allow]]\nid = 'all'\n\
               callers = ['*']\nactions = ['*']\ninstances = ['*']";
    let policy = Policy::parse(all).expect("valid");
    let decide = |caller: &str| {
        let (principal, instance) = (&principal(caller), &"i-1".parse().expect("an id"));
        let (action, eni, validate_only) = (Action::List, None, false);
        policy.decide(&AccessRequest { principal, action, instance, eni, validate_only })
    };
    assert!(decide("dns:a.example").is_allowed());
    assert!(decide("spiffe://prod.example/a").is_allowed());
    assert_eq!(decide("spiffe://evil.example/a"), Decision::NotAllowed);
    assert_eq!(decide("anonymous"), Decision::NotAllowed);
}

#[test]
fn every_fault_is_reported() {
    let error = Policy::parse(
        r#"
version = 2
trust_domains = ["spiffe://prod.example/"]
rules = []

[[allow]]
id = "one"
callers = []
actions = ["detach"]
instances = ["i 1"]
kinds = ["x509"]

[[allow]]
id = "one"
callers = ["anonymous", "spiffe:/prod.example/*"]
actions = ["*"]
instances = ["*"]
validate_only = true

[[allow]]
id = "typo"
caller = ["*"]

[[forbid]]
callers = ["*"]

[[forbid]]
id = "a b"
callers = ["*"]
actions = []
instances = ["*"]
interfaces = [""]
"#,
    )
    .expect_err("it has faults");
    insta::assert_snapshot!(error.to_string());
}

#[rstest]
#[case("version = 1\nallow = 5", "is not a list; begin")]
#[case("version = 1\n[[allow]\n", "line 2: ")]
#[case("version = 1", "no rule allows anything")]
#[case("", "version: is not 1")]
#[case("version = 1\ntrust_domains = \"a\"", "trust_domains: is not a list")]
fn a_bad_file_is_no_policy(#[case] text: &str, #[case] problem: &str) {
    let error = Policy::parse(text).expect_err("it has faults").to_string();
    assert!(error.contains(problem), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*|([a-z.\\[\\]=\"'0-9\n _*-]*)") {
        let _ = Policy::parse(&text);
    }
}
