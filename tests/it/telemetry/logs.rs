//! Log lines as JSON, with their fields and trace ids.

use eni_gateway::telemetry::context::current_trace;
use eni_gateway::telemetry::init::build;
use tracing::{info, info_span, warn};

use super::{JSON, Log, variables};

#[test]
fn a_line_holds_its_fields_and_its_trace() {
    let log = Log::default();
    let (subscriber, _telemetry) =
        build(&variables(&[]), JSON, log.clone()).expect("it can be set up");
    let trace = tracing::subscriber::with_default(subscriber, || {
        info!(target: "eni_gateway", "outside");
        info_span!(target: "eni_gateway", "rpc").in_scope(|| {
            info!(target: "eni_gateway", slots = 3_u64, full = false, code = "OK", "in\nside");
            current_trace()
        })
    });
    let [outside, inside] = &log.lines()[..] else { panic!("there are two lines") };
    assert_eq!((outside["message"].as_str(), outside.get("trace_id")), (Some("outside"), None));
    assert_eq!(inside["message"], "in\nside");
    assert_eq!(inside["level"], "INFO");
    assert_eq!(inside["target"], "eni_gateway");
    assert_eq!(
        (&inside["slots"], &inside["full"], &inside["code"]),
        (&3.into(), &false.into(), &"OK".into())
    );
    let ids =
        (inside["trace_id"].as_str().expect("an id"), inside["span_id"].as_str().expect("an id"));
    assert_eq!(trace.expect("there is a trace").parent, format!("00-{}-{}-00", ids.0, ids.1));
}

#[test]
fn a_span_that_the_log_leaves_out_still_gives_its_trace() {
    let log = Log::default();
    let variables = variables(&[("RUST_LOG", "warn")]);
    let (subscriber, _telemetry) = build(&variables, JSON, log.clone()).expect("it can be set up");
    tracing::subscriber::with_default(subscriber, || {
        info_span!(target: "eni_gateway", "rpc").in_scope(|| {
            info!(target: "eni_gateway", "not shown");
            warn!(target: "eni_gateway", "shown");
        });
    });
    let [line] = &log.lines()[..] else { panic!("there is one line") };
    assert!(line["trace_id"].is_string(), "{line}");
}

#[test]
fn the_time_comes_first_and_the_trace_last() {
    let log = Log::default();
    let (subscriber, _telemetry) =
        build(&variables(&[]), JSON, log.clone()).expect("it can be set up");
    tracing::subscriber::with_default(subscriber, || {
        info_span!(target: "eni_gateway", "rpc")
            .in_scope(|| info!(target: "eni_gateway", alpha = 1, "text"));
    });
    let text = log.text();
    let keys = ["timestamp", "level", "target", "message", "alpha", "trace_id", "span_id"];
    let places: Vec<_> = keys.map(|key| text.find(&format!("\"{key}\":"))).into();
    assert!(places.is_sorted() && places[0] == Some(1), "{text}");
}
