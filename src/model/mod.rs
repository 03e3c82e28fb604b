//! The shared types: ids, times, attachments and their states, reasons. No I/O and no clock;
//! randomness only in [`random`].

pub mod attachment;
pub mod failure;
pub mod ids;
pub mod outage;
pub mod random;
pub mod reason;
pub mod retry_advice;
pub mod stored;
pub mod time;
pub mod trace;

pub use attachment::{Attachment, State, Transition};
pub use failure::Failure;
pub use ids::{
    Caller, FencingToken, InstanceId, InterfaceId, Position, RequestId, Revision, Ticket, Uid,
};
pub use outage::Outage;
pub use reason::{Code, Reason};
pub use retry_advice::{RetryAdvice, SendEffect};
pub use stored::Unknown;
pub use time::Timestamp;
pub use trace::TraceContext;
