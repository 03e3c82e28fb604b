//! The kinds of calls of Redis: how many trips each takes, and its name in traces.

use tracing::Span;

use crate::names::{attribute, otel, span};

/// Most trips of a call that takes several. The driver bounds each of them.
const SEVERAL: u32 = 10;

/// The kind of a call.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum RedisOperation {
    Commit,
    Claim,
    Take,
    /// A read of the queues of due attempts.
    Due,
    /// A renewal or a check of epochs.
    Renew,
    /// A preflight check.
    Preflight,
    /// A write that shows whether the server accepts commits in time.
    Probe,
}

impl RedisOperation {
    /// Its timeout, as a multiple of the timeout of one trip.
    pub(super) fn trips(self) -> u32 {
        match self {
            Self::Renew | Self::Preflight => SEVERAL,
            Self::Commit | Self::Claim | Self::Take | Self::Due | Self::Probe => 1,
        }
    }

    /// The command, and the script it runs.
    fn names(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Commit | Self::Renew | Self::Probe => ("EVALSHA", Some("commit")),
            Self::Claim => ("EVALSHA", Some("claim")),
            Self::Take => ("EVALSHA", Some("take")),
            Self::Due => ("PIPELINE ZRANGEBYSCORE", None),
            Self::Preflight => ("INFO", None),
        }
    }

    /// A client span for a call that is part of a trace. The gateway's own calls would only make
    /// traces of one span.
    pub(super) fn span(self) -> Span {
        if Span::current().is_none() {
            return Span::none();
        }
        let (name, script) = self.names();
        tracing::info_span!(
            span::REDIS,
            { otel::NAME } = name,
            { otel::KIND } = "client",
            { attribute::DB_SYSTEM } = "redis",
            { attribute::DB_OPERATION } = name,
            { attribute::DB_PROCEDURE } = script,
            { attribute::ERROR_TYPE } = tracing::field::Empty,
        )
    }
}
