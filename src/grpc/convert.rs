//! Conversion of the model's types to protobuf; [`super::parse`] converts requests.

use std::time::Duration;

use super::errors;
use super::proto::{self as pb, attachment};
use crate::attach::Check;
use crate::ledger::PartitionId;
use crate::model::{Attachment, Failure, InstanceId, InterfaceId, State, Timestamp, Transition};
use crate::watch::fleet::FleetEvent;
use crate::watch::{Capacity, Event};

impl From<&Attachment> for pb::Attachment {
    fn from(attachment: &Attachment) -> Self {
        Self {
            instance_id: attachment.instance.to_string(),
            network_interface_id: attachment.eni.to_string(),
            uid: attachment.uid.to_string(),
            state: attachment::State::from(attachment.state).into(),
            ens_status: attachment.ens_status.clone(),
            observe_time: attachment.observed_at.map(timestamp),
            revision: attachment.revision.0,
            create_time: Some(timestamp(attachment.created_at)),
            update_time: Some(timestamp(attachment.updated_at)),
            ens_request_id: attachment.ens_request_id.clone(),
            error: attachment.error.as_ref().map(Into::into),
            transitions: attachment.transitions.iter().map(Into::into).collect(),
            stuck: attachment.stuck,
        }
    }
}

impl From<State> for attachment::State {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Verifying => Self::Verifying,
            State::Attaching => Self::Attaching,
            State::Attached => Self::Attached,
            State::Failed => Self::Failed,
            State::Detaching => Self::Detaching,
            State::Detached => Self::Detached,
            State::Unknown => Self::Unspecified,
        }
    }
}

impl attachment::State {
    /// The model's state, for clients; `None` for an unknown number or `UNSPECIFIED`.
    #[must_use]
    pub const fn known(self) -> Option<State> {
        match self {
            Self::Unspecified => None,
            Self::Pending => Some(State::Pending),
            Self::Verifying => Some(State::Verifying),
            Self::Attaching => Some(State::Attaching),
            Self::Attached => Some(State::Attached),
            Self::Failed => Some(State::Failed),
            Self::Detaching => Some(State::Detaching),
            Self::Detached => Some(State::Detached),
        }
    }
}

impl From<&Transition> for attachment::Transition {
    fn from(transition: &Transition) -> Self {
        Self {
            state: attachment::State::from(transition.state).into(),
            time: Some(timestamp(transition.time)),
        }
    }
}

impl From<&Failure> for pb::AttachmentError {
    fn from(failure: &Failure) -> Self {
        Self {
            code: failure.code.number(),
            reason: failure.reason.name().to_owned(),
            message: failure.message.clone(),
            ens_code: failure.ens_code.clone(),
            ens_request_id: failure.ens_request_id.clone(),
            metadata: errors::metadata(failure),
            retry_delay: errors::retry_delay(failure).map(duration),
        }
    }
}

/// The result of one ENI of a batch.
pub(super) fn attach_result(
    eni: &InterfaceId,
    answer: &Result<Attachment, Failure>,
) -> pb::AttachResult {
    use pb::attach_result::Result as Wire;
    let result = match answer {
        Ok(attachment) => Wire::Attachment(attachment.into()),
        Err(failure) => Wire::Error(failure.into()),
    };
    pb::AttachResult {
        network_interface_id: eni.to_string(),
        result: Some(result),
        checks: Vec::new(),
    }
}

/// The result of one ENI of a batch that only checks.
pub(super) fn validated(
    eni: &InterfaceId,
    validated: Result<Vec<Check>, Failure>,
) -> pb::AttachResult {
    let network_interface_id = eni.to_string();
    let (result, checks) = match validated {
        Ok(checks) => (None, checks),
        Err(failure) => (Some(pb::attach_result::Result::Error((&failure).into())), Vec::new()),
    };
    pb::AttachResult { network_interface_id, result, checks }
}

impl From<&Capacity> for pb::InstanceCapacity {
    fn from(capacity: &Capacity) -> Self {
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        Self {
            instance_id: capacity.instance.to_string(),
            limit: Some(count(capacity.limit)),
            attached: capacity.attached.map(count),
            in_flight: capacity.in_flight.map(count),
            free: capacity.free.map(count),
            queue_length: Some(count(capacity.queue_length)),
            instance_status: capacity.status.clone(),
            observe_time: capacity.observed_at.map(timestamp),
            error: capacity.problem.as_ref().map(Into::into),
        }
    }
}

/// The capacity of an instance of which nothing is known.
pub(super) fn unknown_capacity(instance: &InstanceId, failure: &Failure) -> pb::InstanceCapacity {
    pb::InstanceCapacity {
        instance_id: instance.to_string(),
        error: Some(failure.into()),
        ..Default::default()
    }
}

impl From<Event> for pb::WatchAttachmentResponse {
    fn from(event: Event) -> Self {
        use pb::watch_attachment_response::Event as WireEvent;
        let event = match event {
            Event::Attachment(attachment) => WireEvent::Attachment(attachment.as_ref().into()),
            Event::Heartbeat { revision, interval, coverage } => {
                WireEvent::Heartbeat(pb::Heartbeat {
                    revision: revision.0,
                    interval: Some(duration(interval)),
                    observe_time: coverage.observed_at.map(timestamp),
                    incomplete: coverage.incomplete,
                })
            }
        };
        Self { event: Some(event) }
    }
}

impl From<FleetEvent> for pb::WatchAttachmentsResponse {
    fn from(event: FleetEvent) -> Self {
        use pb::watch_attachments_response::Event as WireEvent;
        let number = |partition: PartitionId| i32::try_from(partition.index()).unwrap_or(i32::MAX);
        let event = match event {
            FleetEvent::Instance { instance, partition, attachments } => {
                WireEvent::Instance(pb::InstanceAttachments {
                    instance_id: instance.to_string(),
                    partition: number(partition),
                    attachments: attachments.iter().map(|it| it.as_ref().into()).collect(),
                })
            }
            FleetEvent::Reset(partition) => {
                WireEvent::Reset(pb::PartitionReset { partition: number(partition) })
            }
            FleetEvent::Heartbeat { token, interval, incomplete } => {
                WireEvent::Heartbeat(pb::FleetHeartbeat {
                    resume_token: token.to_string(),
                    interval: Some(duration(interval)),
                    incomplete,
                })
            }
        };
        Self { event: Some(event) }
    }
}

pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.as_micros();
    let seconds = i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX);
    // Below 1 000 000 000, which fits an i32.
    let nanos = i32::try_from(micros % 1_000_000 * 1_000).unwrap_or_default();
    prost_types::Timestamp { seconds, nanos }
}

fn duration(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration {
        seconds,
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::model::{Reason, Revision, Uid, Unknown};
    use crate::watch::Coverage;

    #[test]
    fn an_attachment_keeps_every_field() {
        let time = Timestamp::from_micros(1_700_000_000_123_456);
        let attachment = Attachment {
            instance: "i-1".parse().expect("an id"),
            eni: "eni-1".parse().expect("an id"),
            uid: Uid(uuid::Uuid::from_u128(7)),
            state: State::Failed,
            ens_status: "In_use".to_owned(),
            observed_at: Some(time),
            revision: Revision(u64::MAX),
            created_at: time,
            updated_at: time,
            ens_request_id: "REQ".to_owned(),
            error: Some(
                Failure::new(Reason::AttachFailed, "free again").ens("E", "R").with("limit", 10),
            ),
            transitions: vec![Transition::new(State::Pending, time)],
            stuck: true,
            unknown: Unknown::default(),
        };
        let wire_time = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_456_000 });
        let expected = pb::Attachment {
            instance_id: "i-1".to_owned(),
            network_interface_id: "eni-1".to_owned(),
            uid: "00000000-0000-0000-0000-000000000007".to_owned(),
            state: attachment::State::Failed.into(),
            ens_status: "In_use".to_owned(),
            observe_time: wire_time,
            revision: u64::MAX,
            create_time: wire_time,
            update_time: wire_time,
            ens_request_id: "REQ".to_owned(),
            error: Some(pb::AttachmentError {
                code: 10,
                reason: "ATTACH_FAILED".to_owned(),
                message: "free again".to_owned(),
                ens_code: "E".to_owned(),
                ens_request_id: "R".to_owned(),
                metadata: HashMap::from(
                    [("ensCode", "E"), ("ensRequestId", "R"), ("limit", "10")]
                        .map(|(k, v)| (k.to_owned(), v.to_owned())),
                ),
                retry_delay: None,
            }),
            transitions: vec![attachment::Transition {
                state: attachment::State::Pending.into(),
                time: wire_time,
            }],
            stuck: true,
        };
        assert_eq!(pb::Attachment::from(&attachment), expected);
    }

    #[test]
    fn a_heartbeat_keeps_every_field() {
        let event = Event::Heartbeat {
            revision: Revision(3),
            interval: Duration::from_millis(1500),
            coverage: Coverage {
                observed_at: Some(Timestamp::from_micros(1_700_000_000_123_456)),
                incomplete: true,
            },
        };
        let pb::watch_attachment_response::Event::Heartbeat(heartbeat) =
            pb::WatchAttachmentResponse::from(event).event.expect("an event")
        else {
            panic!("not a heartbeat");
        };
        assert_eq!(heartbeat.revision, 3);
        assert_eq!(
            heartbeat.interval,
            Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 })
        );
        let observed = heartbeat.observe_time.map(|time| (time.seconds, time.nanos));
        assert_eq!((observed, heartbeat.incomplete), (Some((1_700_000_000, 123_456_000)), true));
    }
}
