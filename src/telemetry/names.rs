//! Names of spans, attributes and metrics: dashboards, alerts and queries rely on them. Where OpenTelemetry's stable
//! conventions have a name, it is theirs.
//!
//! The Prometheus exporter writes `.` as `_`, and appends the unit and, to counters, `_total`.

/// Target of the audit lines: who asked for what and what was answered (`attach`), and what became of it (`attach ended`).
pub const AUDIT: &str = "eni_gateway::audit";

/// Names of spans.
pub mod span {
    /// The wait for an instance's lock.
    pub const LOCK_WAIT: &str = "lock wait";
    /// One attempt, from its reservation to its end.
    pub const ATTACHMENT: &str = "attachment";
    /// One batched describe of the tracker; linked to every attempt in the batch.
    pub const POLL: &str = "poll";
}

/// Names of attributes, of spans and of metrics.
pub mod attribute {
    /// `grpc`.
    pub const RPC_SYSTEM: &str = "rpc.system.name";
    /// `eni.gateway.v1.AttachmentService/…`; `_OTHER` for a method that the gateway does not have.
    pub const RPC_METHOD: &str = "rpc.method";
    /// The canonical code's name, such as `RESOURCE_EXHAUSTED`.
    pub const RPC_STATUS: &str = "rpc.response.status_code";
    /// The reason, where something failed.
    pub const ERROR_TYPE: &str = "error.type";
    /// `redis`.
    pub const DB_SYSTEM: &str = "db.system.name";
    /// The command or script.
    pub const DB_OPERATION: &str = "db.operation.name";
    /// The HTTP method.
    pub const HTTP_METHOD: &str = "http.request.method";
    /// The HTTP status.
    pub const HTTP_STATUS: &str = "http.response.status_code";
    /// The host of an outgoing call.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// The port of an outgoing call.
    pub const SERVER_PORT: &str = "server.port";
    /// The instance. On spans only: never a label.
    pub const INSTANCE_ID: &str = "eni_gateway.instance.id";
    /// The ENI. On spans only: never a label.
    pub const INTERFACE_ID: &str = "eni_gateway.interface.id";
    /// The attempt.
    pub const ATTACHMENT_UID: &str = "eni_gateway.attachment.uid";
    /// The attempt's state.
    pub const ATTACHMENT_STATE: &str = "eni_gateway.attachment.state";
    /// ENS's RequestId.
    pub const ENS_REQUEST_ID: &str = "eni_gateway.ens.request_id";
    /// ENS's error code.
    pub const ENS_CODE: &str = "eni_gateway.ens.code";
    /// The action of the OpenAPI.
    pub const ACTION: &str = "action";
    /// Why an RPC failed: `ErrorInfo.reason`.
    pub const REASON: &str = "reason";
    /// What became of it.
    pub const OUTCOME: &str = "outcome";
    /// Who refused: `ledger` or `ens`.
    pub const SOURCE: &str = "source";
    /// `back` or `forward`.
    pub const DIRECTION: &str = "direction";
    /// What differed: `adopted`, `detached` or `requeued`.
    pub const KIND: &str = "kind";
    /// The invariant's name.
    pub const INVARIANT: &str = "invariant";
    /// The version that runs.
    pub const VERSION: &str = "version";
    /// The commit it was built from.
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
    /// Instances whose record was compared with ENS.
    pub const RECONCILIATIONS: &str = "eni_gateway.reconciliations";
    /// Differences that such reconciliations found.
    pub const RECONCILE_DRIFT: &str = "eni_gateway.reconcile_drift";
    /// Open watch streams.
    pub const WATCH_STREAMS: &str = "eni_gateway.watch.streams";
    /// Seconds from a change to its message to a watcher.
    pub const WATCH_LAG: &str = "eni_gateway.watch.lag";
    /// 1 while ENS throttles.
    pub const ENS_BREAKER_OPEN: &str = "eni_gateway.ens.breaker_open";
    /// Seconds by which ENS's clock is too far ahead.
    pub const ENS_CLOCK_OFFSET: &str = "eni_gateway.ens.clock_offset";
    /// 1 while calls may be sent to this replica.
    pub const READY: &str = "eni_gateway.ready";
    /// 1 while the ledger can be reached.
    pub const LEDGER_UP: &str = "eni_gateway.ledger.up";
    /// Reasons why the ledger must not be used.
    pub const LEDGER_MISCONFIGURED: &str = "eni_gateway.ledger.misconfigured";
    /// Partitions that recover from a loss.
    pub const PARTITIONS_RECOVERING: &str = "eni_gateway.partitions.recovering";
    /// Steps of the ledger's clock, by direction.
    pub const LEDGER_CLOCK_STEPS: &str = "eni_gateway.ledger.clock_steps";
    /// Invariants that were found broken.
    pub const INVARIANT_VIOLATIONS: &str = "eni_gateway.invariant.violations";
    /// 1, labelled with what runs.
    pub const BUILD_INFO: &str = "eni_gateway.build_info";
}
