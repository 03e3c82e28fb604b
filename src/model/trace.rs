//! The stored trace context of an attempt.

use super::stored::stored;

stored! {
    /// W3C trace context, as on the wire.
    #[derive(Clone, Debug, PartialEq, Eq, Default)]
    pub struct TraceContext {
        /// `traceparent`, with its sampled flag.
        pub parent: String,
        /// `tracestate`; often empty.
        pub state: String = optional,
    }
}
