//! ENS may repeat what it received. Callers, logs, spans, Redis and metrics show none of it.

use std::time::Duration;

use eni_gateway::simulator::auth::{DEFAULT_ID, DEFAULT_SECRET};
use eni_gateway::simulator::{Action, Effect, Fault};

use crate::support::collector::Collector;
use crate::support::gateway::{Stage, attach, eni, eventually, get, reason, try_attach, within};

const ATTACH: Action = Action::AttachNetworkInterface;
const DESCRIBE: Action = Action::DescribeNetworkInterfaces;
/// The account, which only operators may see.
const ACCOUNT: &str = "acs:ram::1234567890123456:user/gateway";
/// `x-acs-security-token:simulator-access-key-secret`, in base64.
const IN_BASE64: &str = "eC1hY3Mtc2VjdXJpdHktdG9rZW46c2ltdWxhdG9yLWFjY2Vzcy1rZXktc2VjcmV0";

fn echo(code: &str, status: u16) -> Effect {
    let message = format!(
        "{ACCOUNT}: the string to sign is AccessKeyId={DEFAULT_ID}&{IN_BASE64} with {DEFAULT_SECRET}."
    );
    Effect::Refuse { code: code.to_owned(), status, message }
}

/// Everything that Redis holds, as text.
pub(super) async fn stored(stage: &Stage) -> String {
    let mut all = String::new();
    for key in stage.redis.ask::<Vec<String>>(&["KEYS", "*"]).await {
        all.push_str(&key);
        let command: &[&str] = match stage.redis.ask::<String>(&["TYPE", &key]).await.as_str() {
            "string" => &["GET", &key],
            "hash" => &["HVALS", &key],
            "zset" => &["ZRANGE", &key, "0", "-1"],
            _ => continue,
        };
        all.push_str(&format!("{:?}", stage.redis.ask::<redis::Value>(command).await));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ens_repeats_of_the_credentials_is_shown_nowhere() {
    let collector = Collector::start().await;
    let stage = Stage::new(&["i-1", "i-2"], 9).await;
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("RUST_LOG", "debug"),
    ];
    let replica = stage.replica(&settings).await;
    let client = replica.client().await;

    let with_key = format!("InvalidParameter.{DEFAULT_ID}");
    let cases = [
        ("SignatureDoesNotMatch", 400, Some("ENS_CREDENTIALS_REJECTED")),
        ("Forbidden.RAM", 403, Some("ENS_PERMISSION_DENIED")),
        ("Throttling.User", 400, Some("ENS_THROTTLED")),
        ("InternalError", 500, None),
        ("Operation.Unexpected", 400, None),
        (with_key.as_str(), 400, Some("ENS_INVALID_PARAMETER")),
    ];
    let mut seen = String::new();
    for (n, (code, status, expected)) in cases.into_iter().enumerate() {
        let fault = Fault::next(ATTACH, echo(code, status)).eni(eni(n + 1)).times(u32::MAX);
        stage.ens.fault(fault);
        let call = within(Duration::from_secs(3), attach("i-1", &eni(n + 1)));
        let failure = try_attach(&client, call).await.expect_err(code);
        let shown = format!("{failure:?} {}", failure.0.message());
        if let Some(expected) = expected {
            assert_eq!(reason(&failure), expected, "{shown}");
        }
        if expected.is_some_and(|reason| reason != "ENS_INVALID_PARAMETER") {
            assert!(!shown.contains("string to sign") && !shown.contains(ACCOUNT), "{shown}");
        }
        seen.push_str(&shown);
    }
    stage.ens.fault(Fault::next(DESCRIBE, echo("SignatureDoesNotMatch", 400)).times(u32::MAX));
    let failure = get(&client, "i-2", "eni-0009").await.expect_err("it is not known");
    let shown = format!("{failure:?}");
    assert!(!shown.contains("string to sign"), "{shown}");
    seen.push_str(&shown);

    eventually("the calls were not traced", async || collector.spans().len() > cases.len()).await;
    seen.push_str(&format!("{:?}", collector.resources()));
    seen.push_str(&stored(&stage).await);
    seen.push_str(&replica.admin("/metrics").await.expect("a page").1);
    let log = replica.log();
    assert!(log.contains("the string to sign is"), "ENS's words are in the log: {log}");
    assert!(log.contains(ACCOUNT), "{log}");
    seen.push_str(&log);
    for secret in [DEFAULT_ID, DEFAULT_SECRET, &IN_BASE64[28..60]] {
        let at = seen.find(secret);
        let excerpt = at.map(|at| &seen[at.saturating_sub(300)..(at + 100).min(seen.len())]);
        assert_eq!(excerpt, None, "{secret}");
    }
}
