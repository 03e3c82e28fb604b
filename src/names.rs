//! Names of spans, attributes and metrics. Dashboards, alerts and queries rely on them, so every
//! module takes them from here. OpenTelemetry's stable conventions come first; the gateway's own
//! names begin with `eni_gateway`.
//!
//! The Prometheus exporter writes `.` as `_`, and appends the unit and, to counters, `_total`.

/// Target of the audit lines, which `telemetry::audit` writes.
pub const AUDIT: &str = "eni_gateway::audit";
/// The log line of a violated invariant: a defect of the gateway.
pub const INVARIANT_VIOLATED: &str = "an invariant was violated; please report this";

/// Names of spans.
pub mod span {
    /// One RPC. Exported under the name of its method.
    pub const RPC: &str = "rpc";
    /// One call of ENS. Exported under the name of its action.
    pub const ENS_CALL: &str = "ens.call";
    /// One round trip to Redis. Exported under the name of its command or script.
    pub const REDIS: &str = "redis";
    /// The wait for an instance's lock.
    pub const LOCK_WAIT: &str = "lock wait";
    /// One attempt, from its reservation to its end.
    pub const ATTACHMENT: &str = "attachment";
    /// One batched describe of the tracker; linked to every attempt in the batch.
    pub const POLL: &str = "poll";
}

/// Fields that OpenTelemetry's layer applies to the span itself.
pub mod otel {
    /// The name under which the span is exported.
    pub const NAME: &str = "otel.name";
    /// `server`, `client` or `internal`.
    pub const KIND: &str = "otel.kind";
    /// `ERROR`, where the span failed.
    pub const STATUS: &str = "otel.status_code";
}

/// Names of attributes of spans.
pub mod attribute {
    /// `grpc`.
    pub const RPC_SYSTEM: &str = "rpc.system.name";
    /// `eni.gateway.v1.AttachmentService/…`; `_OTHER` for a method that the gateway does not have.
    pub const RPC_METHOD: &str = "rpc.method";
    /// The path of the request, where the method is `_OTHER`.
    pub const RPC_METHOD_ORIGINAL: &str = "rpc.method_original";
    /// The canonical code's name, such as `RESOURCE_EXHAUSTED`.
    pub const RPC_STATUS: &str = "rpc.response.status_code";
    /// The address of the caller.
    pub const PEER_ADDRESS: &str = "network.peer.address";
    /// The port of the caller.
    pub const PEER_PORT: &str = "network.peer.port";
    /// The kind of the failure.
    pub const ERROR_TYPE: &str = "error.type";
    /// `redis`.
    pub const DB_SYSTEM: &str = "db.system.name";
    /// The command or script.
    pub const DB_OPERATION: &str = "db.operation.name";
    /// The script.
    pub const DB_PROCEDURE: &str = "db.stored_procedure.name";
    /// The HTTP method.
    pub const HTTP_METHOD: &str = "http.request.method";
    /// The HTTP status.
    pub const HTTP_STATUS: &str = "http.response.status_code";
    /// The host of an outgoing call.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// The port of an outgoing call.
    pub const SERVER_PORT: &str = "server.port";
    /// The reason of a failed RPC: `ErrorInfo.reason`.
    pub const REASON: &str = "eni_gateway.reason";
    /// The instance.
    pub const INSTANCE_ID: &str = "eni_gateway.instance.id";
    /// The ENI.
    pub const INTERFACE_ID: &str = "eni_gateway.interface.id";
    /// The attempt.
    pub const ATTACHMENT_UID: &str = "eni_gateway.attachment.uid";
    /// The attempt's state.
    pub const ATTACHMENT_STATE: &str = "eni_gateway.attachment.state";
    /// The action of ENS's OpenAPI.
    pub const ENS_ACTION: &str = "eni_gateway.ens.action";
    /// ENS's RequestId.
    pub const ENS_REQUEST_ID: &str = "eni_gateway.ens.request_id";
    /// Attempts, or instances, in one describe.
    pub const BATCH_SIZE: &str = "eni_gateway.poll.batch_size";
}

/// Names of labels of metrics, beside the `rpc` attributes. Instances and ENIs are never labels.
pub mod label {
    /// The action of ENS's OpenAPI.
    pub const ACTION: &str = "action";
    /// The reason of a failed RPC: `ErrorInfo.reason`.
    pub const REASON: &str = "reason";
    /// The outcome.
    pub const OUTCOME: &str = "outcome";
    /// The source of a refusal: `ledger` or `ens`.
    pub const SOURCE: &str = "source";
    /// `back` or `forward`.
    pub const DIRECTION: &str = "direction";
    /// The kind of drift: `adopted`, `detached` or `requeued`.
    pub const KIND: &str = "kind";
    /// The cause of a failed handshake.
    pub const CAUSE: &str = "cause";
    /// The setting.
    pub const SETTING: &str = "setting";
    /// The queue of log lines: `log` or `audit`.
    pub const QUEUE: &str = "queue";
    /// The invariant's id.
    pub const INVARIANT: &str = "invariant";
    /// The version of the gateway.
    pub const VERSION: &str = "version";
    /// The commit that the gateway was built from.
    pub const COMMIT: &str = "commit";
}

/// Names of metrics.
pub mod metric {
    /// Seconds of each RPC.
    pub const RPC_DURATION: &str = "rpc.server.call.duration";
    /// Seconds of each call of ENS.
    pub const ENS_REQUEST_DURATION: &str = "eni_gateway.ens.request.duration";
    /// Seconds waited for an instance's lock.
    pub const LOCK_WAIT: &str = "eni_gateway.lock.wait";
    /// Attempts that ended.
    pub const ATTEMPTS: &str = "eni_gateway.attempts";
    /// Attempts that this replica drives.
    pub const ATTEMPTS_IN_FLIGHT: &str = "eni_gateway.attempts.in_flight";
    /// Attempts that are stuck.
    pub const ATTEMPTS_STUCK: &str = "eni_gateway.attempts.stuck";
    /// Attaches refused because the instance is full.
    pub const LIMIT_REJECTIONS: &str = "eni_gateway.limit_rejections";
    /// Attempts in one describe of the tracker.
    pub const POLL_BATCH_SIZE: &str = "eni_gateway.poll.batch_size";
    /// Instances whose record was reconciled with ENS.
    pub const RECONCILIATIONS: &str = "eni_gateway.reconciliations";
    /// Drift that reconciliations found.
    pub const RECONCILE_DRIFT: &str = "eni_gateway.reconcile_drift";
    /// Open watch streams.
    pub const WATCH_STREAMS: &str = "eni_gateway.watch.streams";
    /// Seconds from a change to its message to a watcher.
    pub const WATCH_LAG: &str = "eni_gateway.watch.lag";
    /// 1 while ENS throttles.
    pub const ENS_BREAKER_OPEN: &str = "eni_gateway.ens.breaker_open";
    /// Seconds by which ENS's clock is ahead beyond the tolerance.
    pub const ENS_CLOCK_OFFSET: &str = "eni_gateway.ens.clock_offset";
    /// 1 while this replica accepts calls.
    pub const READY: &str = "eni_gateway.ready";
    /// 1 while the ledger can be reached.
    pub const LEDGER_UP: &str = "eni_gateway.ledger.up";
    /// Share of the ledger's maximum memory in use.
    pub const LEDGER_MEMORY_USED: &str = "eni_gateway.ledger.memory_used";
    /// Reasons why the ledger must not be used.
    pub const LEDGER_MISCONFIGURED: &str = "eni_gateway.ledger.misconfigured";
    /// Partitions that recover from a loss.
    pub const PARTITIONS_RECOVERING: &str = "eni_gateway.partitions.recovering";
    /// Partitions in which no attach begins, by an operator's order.
    pub const PARTITIONS_FROZEN: &str = "eni_gateway.partitions.frozen";
    /// Steps of the ledger's clock, by direction.
    pub const LEDGER_CLOCK_STEPS: &str = "eni_gateway.ledger.clock_steps";
    /// Unix time at which a certificate of the gateway expires.
    pub const CERTIFICATE_EXPIRY: &str = "eni_gateway.certificate.expiry_timestamp";
    /// 1 while a changed file is invalid, and the one before stays in force.
    pub const RELOAD_FAILING: &str = "eni_gateway.reload.failing";
    /// Failed TLS handshakes, by cause.
    pub const HANDSHAKES_FAILED: &str = "eni_gateway.handshakes.failed";
    /// Log lines that were not written.
    pub const LOG_LINES_DROPPED: &str = "eni_gateway.log.lines_dropped";
    /// Invariant violations.
    pub const INVARIANT_VIOLATIONS: &str = "eni_gateway.invariant.violations";
    /// 1, labelled with what runs.
    pub const BUILD_INFO: &str = "eni_gateway.build_info";
}
