//! Parses requests. One `INVALID_FIELD` names every bad field.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use uuid::Uuid;

use super::page::{self, Page};
use super::proto as pb;
use crate::ens::MAX_INSTANCES;
use crate::model::ids::InvalidId;
use crate::model::{Failure, InstanceId, InterfaceId, Reason, RequestId, Revision};
use crate::watch::OBSERVED_WITHIN;

/// Maximum number of ENIs of one batch.
pub const MAX_BATCH: usize = 20;

/// A parsed attach request.
#[derive(Debug, PartialEq)]
pub struct Attach {
    /// The instance.
    pub instance: InstanceId,
    /// The ENI.
    pub eni: InterfaceId,
    /// The idempotency key, if any.
    pub request_id: Option<RequestId>,
    /// Whether to check only.
    pub validate_only: bool,
}

/// A parsed request to attach several ENIs.
#[derive(Debug, PartialEq)]
pub struct AttachBatch {
    /// The instance.
    pub instance: InstanceId,
    /// The ENIs, each once.
    pub enis: Vec<InterfaceId>,
    /// The idempotency key, if any.
    pub request_id: Option<RequestId>,
    /// Whether the free slots must hold all of them.
    pub require_all: bool,
    /// Whether to check only.
    pub validate_only: bool,
}

/// A parsed watch request.
#[derive(Debug, PartialEq)]
pub struct Watch {
    /// The instance.
    pub instance: InstanceId,
    /// The ENI; `None` for all.
    pub eni: Option<InterfaceId>,
    /// The revision after which attachments are sent.
    pub after: Revision,
    /// Whether to continue after terminal states.
    pub follow: bool,
}

/// Reads an attach.
///
/// # Errors
/// `INVALID_FIELD` names the bad fields.
pub fn attach(request: &pb::AttachNetworkInterfaceRequest) -> Result<Attach, Failure> {
    let mut fields = Fields::default();
    let instance = fields.id("instance_id", &request.instance_id);
    let eni = fields.id("network_interface_id", &request.network_interface_id);
    let request_id = fields.request_id(&request.request_id);
    let validate_only = request.validate_only;
    fields.finish(|| Some(Attach { instance: instance?, eni: eni?, request_id, validate_only }))
}

/// Reads an attach of several ENIs.
///
/// # Errors
/// `INVALID_FIELD` names the bad fields.
pub fn attach_batch(
    request: &pb::BatchAttachNetworkInterfacesRequest,
) -> Result<AttachBatch, Failure> {
    let mut fields = Fields::default();
    let instance = fields.id("instance_id", &request.instance_id);
    let enis = fields.ids("network_interface_ids", &request.network_interface_ids, MAX_BATCH);
    let request_id = fields.request_id(&request.request_id);
    let (require_all, validate_only) = (request.require_all, request.validate_only);
    fields.finish(|| {
        Some(AttachBatch {
            instance: instance?,
            enis: enis?,
            request_id,
            require_all,
            validate_only,
        })
    })
}

/// Reads a watch.
///
/// # Errors
/// `INVALID_FIELD` names the bad fields.
pub fn watch(request: &pb::WatchAttachmentRequest) -> Result<Watch, Failure> {
    let mut fields = Fields::default();
    let instance = fields.id("instance_id", &request.instance_id);
    let eni = match request.network_interface_id.as_str() {
        "" => None,
        text => fields.id("network_interface_id", text),
    };
    let (after, follow) = (Revision(request.after_revision), request.follow);
    fields.finish(|| Some(Watch { instance: instance?, eni, after, follow }))
}

/// Reads a get.
///
/// # Errors
/// `INVALID_FIELD` names the bad fields.
pub fn get(request: &pb::GetAttachmentRequest) -> Result<(InstanceId, InterfaceId), Failure> {
    let mut fields = Fields::default();
    let instance = fields.id("instance_id", &request.instance_id);
    let eni = fields.id("network_interface_id", &request.network_interface_id);
    fields.finish(|| Some((instance?, eni?)))
}

/// Reads a list.
///
/// # Errors
/// `INVALID_FIELD` names the bad fields.
pub fn list(request: &pb::ListAttachmentsRequest) -> Result<(InstanceId, Page), Failure> {
    let mut fields = Fields::default();
    let instance: Option<InstanceId> = fields.id("instance_id", &request.instance_id);
    let size = fields.check("page_size", page::size(request.page_size));
    // A token can only be checked against its instance.
    let after = match (&instance, request.page_token.as_str()) {
        (_, "") | (None, _) => None,
        (Some(instance), token) => fields.check("page_token", page::read_token(token, instance)),
    };
    fields.finish(|| Some((instance?, Page { size: size?, after })))
}

/// Reads a request for an instance's capacity: the instance, and the maximum age.
///
/// # Errors
/// `INVALID_FIELD` names the bad fields.
pub fn capacity(
    request: &pb::GetInstanceCapacityRequest,
) -> Result<(InstanceId, Duration), Failure> {
    let mut fields = Fields::default();
    let instance = fields.id("instance_id", &request.instance_id);
    let max_age = fields.check("max_age", max_age(request.max_age));
    fields.finish(|| Some((instance?, max_age?)))
}

/// Reads a request for the capacities of several instances.
///
/// # Errors
/// `INVALID_FIELD` names the bad fields.
pub fn capacities(
    request: &pb::BatchGetInstanceCapacitiesRequest,
) -> Result<(Vec<InstanceId>, Duration), Failure> {
    let mut fields = Fields::default();
    let instances = fields.ids("instance_ids", &request.instance_ids, MAX_INSTANCES);
    let max_age = fields.check("max_age", max_age(request.max_age));
    fields.finish(|| Some((instances?, max_age?)))
}

fn max_age(asked: Option<prost_types::Duration>) -> Result<Duration, &'static str> {
    asked.map_or(Ok(OBSERVED_WITHIN), |asked| {
        Duration::try_from(asked).map_err(|_| "must be a duration of at least 0s")
    })
}

fn uuid(text: &str) -> Result<Uuid, &'static str> {
    // `Uuid` also parses braces, "urn:uuid:" and 32 bare digits. The API takes only the usual form.
    match Uuid::try_parse(text) {
        Ok(id) if text.len() == uuid::fmt::Hyphenated::LENGTH && !id.is_nil() => Ok(id),
        _ => Err("must be a hyphenated UUID other than the nil one"),
    }
}

/// Collects the bad fields.
#[derive(Default)]
struct Fields {
    bad: Vec<(String, String)>,
}

impl Fields {
    fn id<T: FromStr<Err = InvalidId>>(&mut self, name: &str, text: &str) -> Option<T> {
        self.check(name, text.parse())
    }

    /// A list of 1 to `most` ids, each once.
    fn ids<T>(&mut self, name: &str, texts: &[String], most: usize) -> Option<Vec<T>>
    where
        T: FromStr<Err = InvalidId> + Ord + Clone,
    {
        if texts.is_empty() || texts.len() > most {
            self.check(name, Err::<(), _>(format!("must have 1 to {most} ids")));
        }
        let mut seen = BTreeSet::new();
        let ids = texts.iter().take(most).enumerate().map(|(index, text)| {
            let name = format!("{name}[{index}]");
            let id: Option<T> = self.id(&name, text);
            let is_new = id.as_ref().is_none_or(|id| seen.insert(id.clone()));
            self.check(&name, is_new.then_some(()).ok_or("must be in the list once"))?;
            id
        });
        // Every bad id is named.
        let ids: Vec<_> = ids.collect();
        ids.into_iter().collect()
    }

    /// An optional request id.
    fn request_id(&mut self, text: &str) -> Option<RequestId> {
        match text {
            "" => None,
            text => self.check("request_id", uuid(text)).map(RequestId),
        }
    }

    fn check<T, P: ToString>(&mut self, name: &str, parsed: Result<T, P>) -> Option<T> {
        parsed.map_err(|problem| self.bad.push((name.to_owned(), problem.to_string()))).ok()
    }

    /// The parsed request, or every bad field. `whole` may return `None` only if a field was bad.
    fn finish<T>(self, whole: impl FnOnce() -> Option<T>) -> Result<T, Failure> {
        match whole() {
            Some(request) if self.bad.is_empty() => Ok(request),
            _ => {
                let sentences: Vec<String> =
                    self.bad.iter().map(|(name, problem)| format!("{name} {problem}")).collect();
                let mut failure = Failure::new(Reason::InvalidField, sentences.join("; "));
                failure.fields = self.bad;
                Err(failure)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn request() -> pb::AttachNetworkInterfaceRequest {
        pb::AttachNetworkInterfaceRequest {
            instance_id: "i-1".to_owned(),
            network_interface_id: "eni-1".to_owned(),
            request_id: "7f3c2a52-6c0f-4c8b-9a53-0f8f5a3e8d11".to_owned(),
            validate_only: true,
        }
    }

    #[test]
    fn a_good_request_is_read_whole() {
        let read = attach(&request()).expect("all fields are good");
        assert_eq!(read.instance.as_str(), "i-1");
        assert_eq!(read.eni.as_str(), "eni-1");
        assert_eq!(read.request_id.expect("an id").to_string(), request().request_id);
        assert!(read.validate_only);
        let without = pb::AttachNetworkInterfaceRequest { request_id: String::new(), ..request() };
        assert_eq!(attach(&without).expect("the id is optional").request_id, None);
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        let bad = pb::AttachNetworkInterfaceRequest {
            instance_id: String::new(),
            network_interface_id: "eni {1}".to_owned(),
            request_id: "x".to_owned(),
            validate_only: false,
        };
        let failure = attach(&bad).expect_err("all fields are bad");
        assert_eq!(failure.reason, Reason::InvalidField);
        let names: Vec<&str> = failure.fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["instance_id", "network_interface_id", "request_id"]);
        assert!(!failure.message.contains("{1}"), "what was sent is not repeated");
    }

    #[rstest]
    #[case::bare("7f3c2a526c0f4c8b9a530f8f5a3e8d11")]
    #[case::braces("{7f3c2a52-6c0f-4c8b-9a53-0f8f5a3e8d11}")]
    #[case::urn("urn:uuid:7f3c2a52-6c0f-4c8b-9a53-0f8f5a3e8d11")]
    #[case::nil("00000000-0000-0000-0000-000000000000")]
    #[case::short("7f3c2a52-6c0f-4c8b-9a53-0f8f5a3e8d1")]
    #[case::not_hexadecimal("zf3c2a52-6c0f-4c8b-9a53-0f8f5a3e8d11")]
    fn a_request_id_is_a_plain_uuid(#[case] text: &str) {
        let bad = pb::AttachNetworkInterfaceRequest { request_id: text.to_owned(), ..request() };
        assert_eq!(attach(&bad).expect_err(text).fields[0].0, "request_id");
    }

    #[test]
    fn a_watch_may_leave_the_eni_out() {
        let all = pb::WatchAttachmentRequest {
            instance_id: "i-1".to_owned(),
            after_revision: 9,
            ..Default::default()
        };
        let read = watch(&all).expect("no eni means all");
        assert_eq!((read.eni, read.after, read.follow), (None, Revision(9), false));
        let bad = pb::WatchAttachmentRequest { network_interface_id: "é".to_owned(), ..all };
        assert_eq!(watch(&bad).expect_err("not ascii").fields[0].0, "network_interface_id");
    }

    #[test]
    fn a_list_names_its_bad_fields() {
        let bad = pb::ListAttachmentsRequest {
            instance_id: "i-1".to_owned(),
            page_size: -1,
            page_token: "no token".to_owned(),
        };
        let failure = list(&bad).expect_err("size and token are bad");
        let names: Vec<&str> = failure.fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["page_size", "page_token"]);
    }
}
