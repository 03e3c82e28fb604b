//! Parses requests. One `INVALID_FIELD` names every bad field.

use std::time::Duration;

use super::fields::Fields;
use super::page::{self, Page};
use super::proto as pb;
use crate::ens::MAX_INSTANCES;
use crate::model::{Failure, InstanceId, InterfaceId, RequestId, Revision};
use crate::watch::OBSERVED_WITHIN;
use crate::watch::fleet::{AttachmentFilter, ListPosition, ResumeToken};

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

/// A parsed request to watch all instances.
#[derive(Debug, PartialEq)]
pub struct WatchFleet {
    /// The token after which instances are sent; `None` for all.
    pub after: Option<ResumeToken>,
    /// The beginning of the instances' ids.
    pub prefix: String,
    /// The attachments in scope.
    pub attachments: AttachmentFilter,
    /// Whether to continue after terminal states.
    pub follow: bool,
}

/// A parsed list request.
#[derive(Debug, PartialEq)]
pub struct List {
    /// What to list.
    pub scope: ListScope,
    /// The attachments to return.
    pub attachments: AttachmentFilter,
}

/// What a list request is about.
#[derive(Debug, PartialEq)]
pub enum ListScope {
    /// A page of one instance.
    Instance(InstanceId, Page),
    /// A page of this size of all instances, from here.
    Fleet(ListPosition, usize),
}

/// Reads an attach.
///
/// # Errors
/// `INVALID_FIELD` names the bad fields.
pub fn attach(request: &pb::AttachNetworkInterfaceRequest) -> Result<Attach, Failure> {
    let mut fields = Fields::default();
    let instance = fields.instance(&request.instance_id);
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
    let instance = fields.instance(&request.instance_id);
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
    let instance = fields.instance(&request.instance_id);
    let eni = match request.network_interface_id.as_str() {
        "" => None,
        text => fields.id("network_interface_id", text),
    };
    let (after, follow) = (Revision(request.after_revision), request.follow);
    fields.finish(|| Some(Watch { instance: instance?, eni, after, follow }))
}

/// Reads a watch of all instances.
///
/// # Errors
/// `INVALID_FIELD` names the bad fields.
pub fn watch_fleet(request: &pb::WatchAttachmentsRequest) -> Result<WatchFleet, Failure> {
    let mut fields = Fields::default();
    let after = match request.resume_token.as_str() {
        "" => Some(None),
        text => fields.check("resume_token", text.parse()).map(Some),
    };
    let prefix = request.instance_prefix.clone();
    if !prefix.is_empty() {
        let _: Option<InstanceId> = fields.id("instance_prefix", &prefix);
    }
    let states = fields.states(&request.states);
    let (attachments, follow) = (AttachmentFilter { states, stuck: false }, request.follow);
    fields.finish(|| Some(WatchFleet { after: after?, prefix, attachments, follow }))
}

/// Reads a get.
///
/// # Errors
/// `INVALID_FIELD` names the bad fields.
pub fn get(request: &pb::GetAttachmentRequest) -> Result<(InstanceId, InterfaceId), Failure> {
    let mut fields = Fields::default();
    let instance = fields.instance(&request.instance_id);
    let eni = fields.id("network_interface_id", &request.network_interface_id);
    fields.finish(|| Some((instance?, eni?)))
}

/// Reads a list.
///
/// # Errors
/// `INVALID_FIELD` names the bad fields.
pub fn list(request: &pb::ListAttachmentsRequest) -> Result<List, Failure> {
    let mut fields = Fields::default();
    let is_fleet = request.instance_id == page::ALL_INSTANCES;
    let instance: Option<InstanceId> =
        if is_fleet { None } else { fields.instance(&request.instance_id) };
    let size = fields.check("page_size", page::size(request.page_size));
    let token = request.page_token.as_str();
    let states = fields.states(&request.states);
    let attachments = AttachmentFilter { states, stuck: request.stuck };
    if is_fleet {
        let from = match token {
            "" => Some(ListPosition::default()),
            token => fields.check("page_token", page::read_fleet_token(token)),
        };
        return fields.finish(|| Some(List { scope: ListScope::Fleet(from?, size?), attachments }));
    }
    // A token can only be checked against its instance.
    let after = match (&instance, token) {
        (_, "") | (None, _) => None,
        (Some(instance), token) => fields.check("page_token", page::read_token(token, instance)),
    };
    fields.finish(|| {
        let scope = ListScope::Instance(instance?, Page { size: size?, after });
        Some(List { scope, attachments })
    })
}

/// Reads a request for an instance's capacity: the instance, and the maximum age.
///
/// # Errors
/// `INVALID_FIELD` names the bad fields.
pub fn capacity(
    request: &pb::GetInstanceCapacityRequest,
) -> Result<(InstanceId, Duration), Failure> {
    let mut fields = Fields::default();
    let instance = fields.instance(&request.instance_id);
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

fn max_age(wanted: Option<prost_types::Duration>) -> Result<Duration, &'static str> {
    wanted.map_or(Ok(OBSERVED_WITHIN), |wanted| {
        Duration::try_from(wanted).map_err(|_| "must be a duration of at least 0s")
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::model::{Reason, State};

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
    fn only_a_list_takes_all_instances() {
        let all = pb::ListAttachmentsRequest { instance_id: "-".to_owned(), ..Default::default() };
        assert!(list(&all).is_ok());
        let bad = pb::AttachNetworkInterfaceRequest { instance_id: "-".to_owned(), ..request() };
        assert_eq!(attach(&bad).expect_err("all").fields[0].0, "instance_id");
        let bad = pb::WatchAttachmentRequest { instance_id: "-".to_owned(), ..Default::default() };
        assert_eq!(watch(&bad).expect_err("all").fields[0].0, "instance_id");
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
            states: vec![4, 0, 99],
            stuck: false,
        };
        let names = |failure: Failure| -> Vec<String> {
            failure.fields.into_iter().map(|(name, _)| name).collect()
        };
        let expected = ["page_size", "states[1]", "states[2]", "page_token"];
        assert_eq!(names(list(&bad).expect_err("bad")), expected);
        let of_all = pb::ListAttachmentsRequest { instance_id: "-".to_owned(), ..bad };
        assert_eq!(names(list(&of_all).expect_err("bad")), expected);
    }

    #[test]
    fn a_watch_of_all_instances_names_its_bad_fields() {
        let good = pb::WatchAttachmentsRequest { states: vec![4], ..Default::default() };
        let read = watch_fleet(&good).expect("all fields are optional");
        assert_eq!((read.after, read.attachments.states), (None, vec![State::Attached]));
        let bad = pb::WatchAttachmentsRequest {
            resume_token: "none".to_owned(),
            instance_prefix: "i/".to_owned(),
            states: vec![0],
            follow: false,
        };
        let failure = watch_fleet(&bad).expect_err("bad");
        let names: Vec<_> = failure.fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["resume_token", "instance_prefix", "states[0]"]);
    }
}
