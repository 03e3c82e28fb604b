use super::*;

fn metrics() -> Metrics {
    Metrics::new("1.2.3", "abc").expect("metrics can be set up")
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|other| other == line), "{line} is missing from:\n{text}");
}

#[test]
fn the_names_are_those_of_the_contract() {
    let metrics = metrics();
    metrics.rpc_answered(
        "eni.gateway.v1.AttachmentService/GetAttachment",
        "OK",
        None,
        Duration::from_millis(3),
    );
    metrics.rpc_answered("_OTHER", "UNAVAILABLE", Some(Reason::Draining), Duration::ZERO);
    metrics.set_clock_offset(Some(SignedDuration::from_secs(-7)));
    metrics.set_ready(true);
    metrics.set_ledger_misconfigured(2);
    metrics.ens_answered("AttachNetworkInterface", "accepted", Duration::from_millis(30));
    metrics.lock_waited(Duration::from_millis(7));
    metrics.attempt_ended(Ended::Attached);
    metrics.limit_rejected(RefusedBy::Ledger);
    metrics.polled(50);
    metrics.reconciled([1, 0, 2]);
    metrics.watch_lagged(Duration::from_secs(2));
    metrics.set_ledger_up(true);
    metrics.clock_stepped(1, 0);
    metrics.invariant_violated("L1", 1);
    let _stream = metrics.watch_stream();
    drop(metrics.attempt_in_flight());
    let text = metrics.exposition().expect("it can be written");
    for line in [
        r#"rpc_server_call_duration_seconds_count{rpc_method="eni.gateway.v1.AttachmentService/GetAttachment",rpc_response_status_code="OK",rpc_system_name="grpc"} 1"#,
        r#"rpc_server_call_duration_seconds_count{reason="DRAINING",rpc_method="_OTHER",rpc_response_status_code="UNAVAILABLE",rpc_system_name="grpc"} 1"#,
        r#"eni_gateway_ens_request_duration_seconds_count{action="AttachNetworkInterface",outcome="accepted"} 1"#,
        "eni_gateway_lock_wait_seconds_count 1",
        r#"eni_gateway_attempts_total{outcome="attached"} 1"#,
        r#"eni_gateway_attempts_total{outcome="failed"} 0"#,
        "eni_gateway_attempts_in_flight 0",
        "eni_gateway_attempts_stuck 0",
        r#"eni_gateway_limit_rejections_total{source="ledger"} 1"#,
        r#"eni_gateway_poll_batch_size_bucket{le="50"} 1"#,
        "eni_gateway_reconciliations_total 1",
        r#"eni_gateway_reconcile_drift_total{kind="requeued"} 2"#,
        r#"eni_gateway_reconcile_drift_total{kind="detached"} 0"#,
        "eni_gateway_watch_streams 1",
        "eni_gateway_watch_lag_seconds_sum 2",
        "eni_gateway_ens_breaker_open 0",
        "eni_gateway_ens_clock_offset_seconds -7",
        "eni_gateway_ready 1",
        "eni_gateway_ledger_up 1",
        "eni_gateway_ledger_misconfigured 2",
        "eni_gateway_partitions_recovering 0",
        "eni_gateway_partitions_frozen 0",
        r#"eni_gateway_ledger_clock_steps_total{direction="back"} 1"#,
        r#"eni_gateway_ledger_clock_steps_total{direction="forward"} 0"#,
        r#"eni_gateway_invariant_violations_total{invariant="L1"} 1"#,
        r#"eni_gateway_build_info{commit="abc",version="1.2.3"} 1"#,
    ] {
        has(&text, line);
    }
    assert!(!text.contains("otel_scope") && !text.contains("target_info"));
}

#[test]
fn gauges_and_counters_are_there_from_the_start() {
    let text = metrics().exposition().expect("it can be written");
    has(&text, "eni_gateway_watch_streams 0");
    has(&text, r#"eni_gateway_limit_rejections_total{source="ens"} 0"#);
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
}
