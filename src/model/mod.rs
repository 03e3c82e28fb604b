//! What everybody speaks of: ids, times, attachments and their states, reasons. No I/O, no clock, and chance
//! only where it is asked for ([`random`]).

pub mod attachment;
pub mod failure;
pub mod ids;
pub mod random;
pub mod reason;
pub mod retry_advice;
pub mod stored;
pub mod time;

pub use attachment::{Attachment, State, Transition};
pub use failure::Failure;
pub use ids::{Caller, Fence, InstanceId, InterfaceId, RequestId, Revision, Ticket, Uid};
pub use reason::{Code, Reason};
pub use retry_advice::{RetryAdvice, SendEffect};
pub use stored::Unknown;
pub use time::Timestamp;
