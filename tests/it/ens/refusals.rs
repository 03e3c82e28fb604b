//! Every documented error code, and the common ones, from the bytes on the wire to the outcome.

use eni_gateway::ens::Outcome;
use eni_gateway::model::Reason;
use rstest::rstest;

use super::client;
use super::server::{Act, Server};

#[rstest]
#[case("InvalidEniId.NotFound", Reason::EniNotFound)]
#[case("InvalidParameter.EniServiceManaged", Reason::EniServiceManaged)]
#[case("InvalidOperation.InvalidEniStatus", Reason::EniNotAvailable)]
#[case("InstanceNotFound", Reason::InstanceNotFound)]
#[case("InvalidOperation.InvalidEnsStatus", Reason::InstanceNotStopped)]
#[case("InvalidOperation.InstanceNotSupport", Reason::InstanceNotSupported)]
#[case("InvalidOperation.NetworkMismatch", Reason::NetworkMismatch)]
#[case("EniPerInstanceLimitExceeded", Reason::EniLimitExceeded)]
#[case("InvalidOperation.InvalidEniType", Reason::EniTypeNotSupported)]
#[case("NoPermission", Reason::EnsPermissionDenied)]
#[case("InvalidParameter.InstanceId", Reason::EnsInvalidParameter)]
#[case("InvalidTimeStamp.Expired", Reason::EnsCredentialsRejected)]
#[case("SignatureDoesNotMatch", Reason::EnsCredentialsRejected)]
#[case("InvalidAccessKeyId.NotFound", Reason::EnsCredentialsRejected)]
#[case("InvalidSecurityToken.Expired", Reason::EnsCredentialsRejected)]
#[case("Forbidden.RAM", Reason::EnsPermissionDenied)]
#[case("InvalidProtocol.NeedSsl", Reason::EnsError)]
#[tokio::test]
async fn a_refusal_keeps_what_ens_said(
    #[case] code: &str,
    #[case] reason: Reason,
    #[values(400, 403, 404)] status: u16,
    #[values(["Code", "Message", "RequestId"], ["code", "message", "requestId"])] names: [&str; 3],
) {
    let [code_name, message_name, id_name] = names;
    let body = format!(
        r#"{{"{code_name}":"{code}","{message_name}":"Why not.","{id_name}":"R-1","HostId":"h","Recommend":"https://x"}}"#
    );
    let server = Server::always(Act::Json(status, body)).await;
    let outcome = client(&server.url).attach().await;
    let (Outcome::Refused(refusal) | Outcome::Conflict(refusal) | Outcome::Unproven(refusal)) =
        &outcome
    else {
        panic!("not refused: {outcome:?}")
    };
    assert_eq!(matches!(outcome, Outcome::Refused(_)), reason.proves_refusal());
    assert_eq!(refusal.code, code);
    assert_eq!((refusal.message.as_str(), refusal.request_id.as_str()), ("Why not.", "R-1"));
    assert_eq!(Reason::of_ens_code(&refusal.code), reason);
    assert_eq!(server.count(), 1);
}
