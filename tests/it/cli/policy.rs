//! `policy check`.

use tempfile::TempDir;

use super::{Ran, run};

const POLICY: &str = r#"
version = 1
trust_domains = ["prod.example"]

[[allow]]
id = "web"
callers = ["spiffe://prod.example/ns/web/*"]
actions = ["attach", "get"]
instances = ["i-web-*"]

[[forbid]]
id = "frozen"
callers = ["*"]
actions = ["attach"]
instances = ["i-web-9"]
"#;

async fn check(policy: &str, arguments: &[&str]) -> Ran {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("policy.toml");
    std::fs::write(&file, policy).expect("written");
    let file = file.to_str().expect("a path of text");
    let mut ran = run(&[&["policy", "check", file], arguments].concat()).await;
    ran.stderr = ran.stderr.replace(file, "policy.toml");
    ran
}

#[tokio::test]
async fn a_valid_file_shows_its_rules() {
    let ran = check(POLICY, &[]).await;
    assert_eq!((ran.code, &*ran.stderr), (0, ""));
    assert_eq!(ran.stdout, "forbid  frozen\nallow   web\n");
}

#[tokio::test]
async fn the_decisions_are_a_matrix() {
    let arguments =
        ["--caller", "spiffe://prod.example/ns/web/sa/api", "--caller", "dns:a.example"];
    let instances = ["--instance", "i-web-1", "--instance", "i-web-9", "--eni", "eni-1"];
    let ran = check(POLICY, &[&arguments[..], &instances[..]].concat()).await;
    assert_eq!((ran.code, &*ran.stderr), (0, ""));
    insta::assert_snapshot!(ran.stdout);
}

#[tokio::test]
async fn one_decision_is_explained() {
    let arguments = ["--caller", "spiffe://prod.example/ns/web/sa/api", "--instance", "i-web-9"];
    let ran = check(POLICY, &[&arguments[..], &["--action", "attach"]].concat()).await;
    assert_eq!((ran.code, &*ran.stderr), (0, ""));
    insta::assert_snapshot!(ran.stdout);
}

#[tokio::test]
async fn every_fault_of_a_bad_file_is_printed() {
    let ran = check("version = 3\n[[allow]]\nid = \"a\"\ncaller = [\"*\"]\n", &[]).await;
    assert_eq!((ran.code, &*ran.stdout), (64, ""));
    insta::assert_snapshot!(ran.stderr);
}
