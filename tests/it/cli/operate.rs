//! `serve`, `check`, `config dump` and `ledger init`, in valid and invalid use.

use std::time::Duration;

use eni_gateway::simulator::auth::{DEFAULT_ID, DEFAULT_SECRET};
use eni_gateway::simulator::{Action, Effect, Fault, Settings, Simulator, World, WorldFile};
use jiff::SignedDuration;
use rstest::rstest;
use tokio::process::Command;

use super::{Ran, eni_gateway, run};
use crate::support::gateway::{SLOW_ENS, Stage, eventually};
use crate::support::redis::Server;

async fn with_key(arguments: &[&str], secret: &str) -> Ran {
    let mut command = eni_gateway(arguments);
    command
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", DEFAULT_ID)
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", secret);
    command.output().await.unwrap().into()
}

#[tokio::test]
async fn everything_that_is_wrong_is_said_at_once_before_anything_starts() {
    let mut command = eni_gateway(&["serve"]);
    command
        .env("ENI_GATEWAY_LIMIT__ENIS_PER_INSTANCE", "none")
        .env("ENI_GATEWAY_ENS__ATEMPT_TIMEOUT", "5s")
        .env("ENI_GATEWAY_GRPC__LISTEN", "0.0.0.0:50051")
        .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true");
    let ran: Ran = command.output().await.unwrap().into();
    assert_eq!(ran.code, 64);
    for part in [
        "ledger.url",
        "limit.enis_per_instance",
        "ENS__ATEMPT_TIMEOUT",
        "grpc.allow_plaintext",
        "ENS credentials",
    ] {
        assert!(ran.stderr.contains(part), "{part}\n{}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_variables_that_kubernetes_injects_for_the_service_are_no_settings() {
    let stage = Stage::new(&["i-1"], 1).await;
    let injected = [
        ("ENI_GATEWAY_PORT", "tcp://10.0.0.1:50051"),
        ("ENI_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("ENI_GATEWAY_SERVICE_PORT", "50051"),
        ("ENI_GATEWAY_SERVICE_PORT_GRPC", "50051"),
        ("ENI_GATEWAY_PORT_50051_TCP", "tcp://10.0.0.1:50051"),
        ("ENI_GATEWAY_PORT_50051_TCP_ADDR", "10.0.0.1"),
    ];
    let mut replica = stage.replica(&injected).await;
    let (took, well) = replica.terminate().await;
    assert!(well && took < Duration::from_secs(45), "{took:?}: {}", replica.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_what_works_and_what_to_do() {
    let redis = Server::start().await;
    let any = "127.0.0.1:0".parse().unwrap();
    let ens =
        Simulator::start(any, World::new(WorldFile::simple(&["i-1"], 1)), Settings::default())
            .await
            .unwrap();
    let (url, endpoint) = (redis.url(), ens.endpoint());
    let settings = ["--ledger-url", &url, "--ens-endpoint", &endpoint];
    let check = |more: &'static [&'static str]| [&["check"], &settings[..], more].concat();

    let good = with_key(&check(&[]), DEFAULT_SECRET).await;
    assert_eq!(good.code, 0, "{good:?}");
    assert!(
        good.stdout.contains("a signed read of ENIs took") && good.stdout.contains("ledger init"),
        "{}",
        good.stdout
    );
    assert!(!good.stdout.contains(DEFAULT_SECRET));
    assert!(good.stdout.contains("ens:AttachNetworkInterface was not tried"), "{}", good.stdout);
    assert!(good.stdout.contains("set appendonly yes"), "{}", good.stdout);
    assert_eq!(ens.journal().calls_of(Action::DescribeInstances), 1);
    let json = with_key(&check(&["-o", "json"]), DEFAULT_SECRET).await;
    assert!(
        json.json().iter().any(|line| line["part"] == "ens" && line["status"] == "ok"),
        "{}",
        json.stdout
    );

    let wrong = with_key(&check(&[]), "not-the-secret").await;
    assert_eq!(wrong.code, 77, "{wrong:?}");
    assert!(!format!("{wrong:?}").contains("not-the-secret"));
    drop(ens);
    assert_eq!(
        with_key(&["check", "--ledger-url", &url, "--ens-endpoint", "http://127.0.0.1:1"], "x")
            .await
            .code,
        69
    );
    let offline = run(&check(&["--offline"])).await;
    assert_eq!(offline.code, 0, "{offline:?}");
    assert_eq!(run(&["check", "--offline"]).await.code, 64);
}

/// Each read has a right of its own, and each remedy is that of its fault.
#[rstest]
#[case::instances(Action::DescribeInstances)]
#[case::interfaces(Action::DescribeNetworkInterfaces)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_names_the_read_that_ens_forbids(#[case] action: Action) {
    let any = "127.0.0.1:0".parse().unwrap();
    let world = World::new(WorldFile::simple(&["i-1"], 1));
    let ens = Simulator::start(any, world, Settings::default()).await.unwrap();
    let forbidden =
        Effect::Refuse { code: "Forbidden.RAM".into(), status: 403, message: "no".into() };
    ens.fault(Fault::next(action, forbidden));
    let endpoint = ens.endpoint();
    let arguments = ["check", "--ledger-url", "memory://", "--ens-endpoint", &endpoint];
    let ran = with_key(&arguments, DEFAULT_SECRET).await;
    assert_eq!(ran.code, 77, "{ran:?}");
    assert!(ran.stdout.contains(&format!("{}: ens refused", action.name())), "{}", ran.stdout);
    let other = match action {
        Action::DescribeInstances => "a signed read of ENIs took",
        _ => "a signed read of instances works",
    };
    assert!(ran.stdout.contains(other), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_tells_a_wrong_database_from_a_wrong_password() {
    let redis = Server::start().await;
    let database = format!("{}9999", redis.url());
    let ran = run(&["check", "--ledger-url", &database]).await;
    assert!(ran.stdout.contains("correct the number of the database"), "{ran:?}");
    redis.ask::<()>(&["CONFIG", "SET", "requirepass", "hush"]).await;
    let ran = run(&["check", "--ledger-url", &redis.url()]).await;
    assert!(ran.stdout.contains("its password (ledger.password_file)"), "{ran:?}");
}

/// `check` with `ens.enforce_validity`, against a cloud whose window for dates, or whose clock, is
/// this.
#[rstest]
#[case::as_documented(15 * 60, 0, 0, &["enforces ens.request_validity", "agrees with ens's within 5 s"])]
#[case::within_tolerance(15 * 60, 4, 0, &["enforces ens.request_validity"])]
#[case::wider(20 * 60, 0, 1, &["ens accepts a date that is 15 min and 10s old", "set ens.enforce_validity = false"])]
#[case::narrower(5 * 60, 0, 1, &["attaches would fail", "InvalidTimeStamp.Expired", "set ens.enforce_validity = false"])]
#[case::a_clock_that_is_off(15 * 60, 30, 1, &["behind ens's: nothing is sent", "synchronise it"])]
#[case::a_clock_that_is_far_off(15 * 60, -3600, 77, &["ahead of ens's: nothing is sent", "InvalidTimeStamp.Expired"])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_proves_that_ens_keeps_the_validity(
    #[case] window: i64,
    #[case] ahead: i64,
    #[case] code: i32,
    #[case] said: &[&str],
) {
    let redis = Server::start().await;
    let settings = Settings {
        date_window: SignedDuration::from_secs(window),
        clock_ahead: SignedDuration::from_secs(ahead),
        ..Settings::default()
    };
    let any = "127.0.0.1:0".parse().unwrap();
    let ens =
        Simulator::start(any, World::new(WorldFile::simple(&["i-1"], 1)), settings).await.unwrap();
    let mut command =
        eni_gateway(&["check", "--ledger-url", &redis.url(), "--ens-endpoint", &ens.endpoint()]);
    command
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", DEFAULT_ID)
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", DEFAULT_SECRET)
        .env("ENI_GATEWAY_ENS__ENFORCE_VALIDITY", "true");
    let ran: Ran = command.output().await.unwrap().into();
    assert_eq!(ran.code, code, "{ran:?}");
    for part in said {
        assert!(ran.stdout.contains(part), "{part}\n{}", ran.stdout);
    }
    assert_eq!(ens.journal().calls_of(Action::AttachNetworkInterface), 0);
}

#[tokio::test]
async fn a_ledger_is_called_new_once_and_never_while_it_holds_anything() {
    let redis = Server::start().await;
    let init = ["ledger", "init", "--ledger-url", &redis.url()].map(str::to_owned);
    let init = async || run(&init.each_ref().map(String::as_str)).await;
    assert_eq!(init().await.code, 0);
    assert_eq!(init().await.code, 0, "still empty: no harm");
    redis.ask::<()>(&["SET", "eni-gateway:{p0}:v2:record:i-1", "1\n{}"]).await;
    let refused = init().await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("record:i-1"), "{}", refused.stderr);
    let left = run(&["ledger", "init", "--unless-used", "--ledger-url", &redis.url()]).await;
    assert_eq!(left.code, 0, "{left:?}");
    assert!(
        left.stdout.contains("nothing to do") && left.stdout.contains("record:i-1"),
        "{left:?}"
    );
    drop(redis);
    assert_eq!(init().await.code, 69);
    assert_eq!(run(&["ledger", "init", "--ledger-url", "memory://"]).await.code, 64);
}

#[tokio::test]
async fn a_freeze_is_shown_by_check_until_it_ends() {
    let redis = Server::start().await;
    let url = redis.url();
    let ledger = async |arguments: &[&str]| {
        let ran = run(&[arguments, &["--ledger-url", &url]].concat()).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.stdout
    };
    let found = async || {
        let ran = run(&["check", "-o", "json", "--ledger-url", &url]).await;
        let of_ledger = |check: &serde_json::Value| check["part"] == "ledger";
        let checks: Vec<_> = ran.json().into_iter().filter(of_ledger).collect();
        checks.into_iter().find(|check| check.to_string().contains("is frozen"))
    };
    let said = ledger(&["ledger", "freeze", "--reason", "a\nchange"]).await;
    assert!(said.contains("is frozen: no replica begins an attach"), "{said}");
    let shown = found().await.expect("it is shown").to_string();
    assert!(
        shown.contains("(a change): no attach begins") && shown.contains("unfreeze"),
        "{shown}"
    );
    ledger(&["ledger", "freeze"]).await;
    assert!(!found().await.expect("it is shown").to_string().contains("(a change)"));
    ledger(&["ledger", "unfreeze"]).await;
    assert_eq!(found().await, None);
    ledger(&["ledger", "unfreeze"]).await;
    for arguments in [&["ledger", "freeze"], &["ledger", "unfreeze"]] {
        let ran = run(&[&arguments[..], &["--ledger-url", "memory://"]].concat()).await;
        assert_eq!(ran.code, 64, "{ran:?}");
    }
    drop(redis);
    assert_eq!(run(&["ledger", "freeze", "--ledger-url", &url]).await.code, 69);
}

#[tokio::test]
async fn the_settings_in_force_are_shown_and_read_back() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let dump = async |more: &[&str]| run(&[&["config", "dump"], more].concat()).await;
    let mut with_password = eni_gateway(&["config", "dump"]);
    with_password.env("ENI_GATEWAY_LEDGER__URL", "redis://user:hush@redis:6379/1");
    let first: Ran = with_password.output().await.unwrap().into();
    assert!(first.code == 0 && !first.stdout.contains("hush"), "{first:?}");
    // Without the one setting that has no default, it is a file to begin with.
    let start = dump(&[]).await;
    assert!(
        start.code == 0 && start.stdout.contains("# url = \"\"  # wrong: is not set"),
        "{start:?}"
    );
    let plain = dump(&["--ledger-url", "redis://redis:6379/1"]).await;
    std::fs::write(file.path(), &plain.stdout).unwrap();
    let again = dump(&["--config", &path]).await;
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stdout.contains("url = \"redis://redis:6379/1\""), "{}", again.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_drain_at_once() {
    let stage = Stage::new(&["i-1"], 1).await;
    let replica = stage.replica(&SLOW_ENS).await;
    let client = replica.client().await;
    // Half a call holds the drain up.
    let slow = Fault::next(Action::AttachNetworkInterface, Effect::None);
    stage.ens.fault(slow.delay(Duration::from_secs(7)));
    let call = crate::support::gateway::try_attach(
        &client,
        crate::support::gateway::attach("i-1", "eni-0001"),
    );
    let signals = async {
        eventually("never sent", async || {
            stage.ens.journal().instance("i-1").attach_processing == 1
        })
        .await;
        let kill = async || {
            Command::new("kill").args(["-TERM", &replica.id().to_string()]).status().await.unwrap()
        };
        kill().await;
        eventually("not stopping", async || replica.log().contains("stopping")).await;
        kill().await;
        eventually("not ended", async || replica.admin("/livez").await.is_none()).await;
    };
    let (answer, ()) = tokio::join!(call, signals);
    assert!(answer.is_err(), "the process was gone before the answer");
}
