//! The proto's JSON form, for scripts: its field names, 64-bit numbers as strings, times as RFC
//! 3339. Empty fields are written too, except messages, so all lines have the same names.

use std::collections::BTreeMap;
use std::time::Duration;

use prost_types::Timestamp;
use serde_json::{Map, Value, json};

use crate::grpc::proto::attach_result::Result as Of;
use crate::grpc::proto::attachment::State;
use crate::grpc::proto::{AttachResult, Attachment, AttachmentError, InstanceCapacity};

pub(super) fn attachment(attachment: &Attachment) -> Value {
    let mut object = json!({
        "instanceId": attachment.instance_id,
        "networkInterfaceId": attachment.network_interface_id,
        "uid": attachment.uid,
        "state": state(attachment.state),
        "ensStatus": attachment.ens_status,
        "revision": attachment.revision.to_string(),
        "ensRequestId": attachment.ens_request_id,
        "stuck": attachment.stuck,
        "transitions": attachment.transitions.iter().map(|step| {
            let mut object = json!({"state": state(step.state)});
            set_time(&mut object, "time", step.time);
            object
        }).collect::<Vec<_>>(),
    });
    set_time(&mut object, "observeTime", attachment.observe_time);
    set_time(&mut object, "createTime", attachment.create_time);
    set_time(&mut object, "updateTime", attachment.update_time);
    if let Some(error) = &attachment.error {
        object["error"] = failure(error);
    }
    object
}

/// The capacity of an instance. A value that is not known has no field.
pub(super) fn capacity(capacity: &InstanceCapacity) -> Value {
    let mut object = json!({"instanceId": capacity.instance_id});
    for (name, count) in [
        ("limit", capacity.limit),
        ("attached", capacity.attached),
        ("inFlight", capacity.in_flight),
        ("free", capacity.free),
        ("queueLength", capacity.queue_length),
    ] {
        if let Some(count) = count {
            object[name] = count.into();
        }
    }
    if let Some(status) = &capacity.instance_status {
        object["instanceStatus"] = status.as_str().into();
    }
    set_time(&mut object, "observeTime", capacity.observe_time);
    if let Some(error) = &capacity.error {
        object["error"] = failure(error);
    }
    object
}

/// The result of one ENI of a batch.
pub(super) fn attach_result(result: &AttachResult) -> Value {
    let mut object = json!({"networkInterfaceId": result.network_interface_id});
    match &result.result {
        Some(Of::Attachment(found)) => object["attachment"] = attachment(found),
        Some(Of::Error(error)) => object["error"] = failure(error),
        None => object["checks"] = result.checks.as_slice().into(),
    }
    object
}

fn failure(error: &AttachmentError) -> Value {
    let mut object = json!({
        "code": error.code,
        "reason": error.reason,
        "message": error.message,
        "ensCode": error.ens_code,
        "ensRequestId": error.ens_request_id,
        "metadata": error.metadata.iter().collect::<BTreeMap<_, _>>(),
    });
    if let Some(delay) = error.retry_delay.and_then(|delay| Duration::try_from(delay).ok()) {
        object["retryDelay"] = seconds(delay).into();
    }
    object
}

/// The result of `validate_only`.
pub(super) fn validated(found: Option<&Attachment>, checks: &[String]) -> Value {
    let mut object = Map::new();
    if let Some(found) = found {
        object.insert("attachment".to_owned(), attachment(found));
    }
    object.insert("checks".to_owned(), checks.into());
    object.into()
}

/// A state's name, or the number of an unknown one.
fn state(number: i32) -> Value {
    State::try_from(number).map_or_else(|_| number.into(), |state| state.as_str_name().into())
}

fn set_time(object: &mut Value, name: &str, time: Option<Timestamp>) {
    if let Some(text) = time.and_then(rfc3339) {
        object[name] = text.into();
    }
}

/// A time in UTC with 0, 3, 6 or 9 fractional digits; `None` for an invalid one.
pub(super) fn rfc3339(time: Timestamp) -> Option<String> {
    let precision = match time.nanos {
        0 => 0,
        nanos if nanos % 1_000_000 == 0 => 3,
        nanos if nanos % 1_000 == 0 => 6,
        _ => 9,
    };
    let time = jiff::Timestamp::new(time.seconds, time.nanos).ok()?;
    Some(format!("{time:.precision$}"))
}

/// A duration as in proto3 JSON: `1.5s`.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(0, "2026-11-23T09:00:00Z")]
    #[case(120_000_000, "2026-11-23T09:00:00.120Z")]
    #[case(123_456_000, "2026-11-23T09:00:00.123456Z")]
    #[case(1, "2026-11-23T09:00:00.000000001Z")]
    fn times_are_written_as_proto3_json_does(#[case] nanos: i32, #[case] text: &str) {
        assert_eq!(rfc3339(Timestamp { seconds: 1_795_424_400, nanos }).as_deref(), Some(text));
    }

    #[test]
    fn what_is_no_time_is_left_out() {
        assert_eq!(rfc3339(Timestamp { seconds: i64::MAX, nanos: 0 }), None);
    }
}
