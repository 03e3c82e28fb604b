//! Who may call: every caller, RPC and instance, and the end of streams.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use eni_gateway::ens::{DescribeError, EnsRefusal};
use eni_gateway::grpc::proto::attachment_service_client::AttachmentServiceClient;
use eni_gateway::grpc::proto::{
    BatchAttachNetworkInterfacesRequest, BatchGetInstanceCapacitiesRequest, FILE_DESCRIPTOR_SET,
    GetInstanceCapacityRequest, ListAttachmentsRequest, WatchAttachmentsRequest,
};
use eni_gateway::grpc::tls::Files;
use eni_gateway::grpc::{Access, Tls};
use eni_gateway::model::{Failure, Reason};
use eni_gateway::policy::PolicyStore;
use prost::Message as _;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, SanType, date_time_ymd};
use tempfile::TempDir;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Bytes, StdError};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status, transport};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use super::gateway::{Gateway, Options, attach, get, watch};
use super::reason;
use crate::support::authority::Authority;

/// Longer than any wait of these tests.
const LONG: Duration = Duration::from_secs(60);

pub(super) const POLICY: &str = r#"
version = 1
trust_domains = ["prod.example"]

[[forbid]]
id = "frozen"
callers = ["*"]
actions = ["attach"]
instances = ["i-frozen"]

[[allow]]
id = "web"
callers = ["spiffe://prod.example/ns/web/sa/*"]
actions = ["*"]
instances = ["i-web", "i-frozen"]

[[allow]]
id = "reader"
callers = ["dns:reader.example"]
actions = ["get", "list", "watch", "capacity"]
instances = ["*"]

[[allow]]
id = "one-eni"
callers = ["dns:robot.example"]
actions = ["*"]
instances = ["i-web"]
interfaces = ["eni-1"]
"#;

/// A gateway with a policy, and the authority of its callers.
pub(super) struct Guarded {
    pub(super) gateway: Gateway,
    pub(super) callers: Authority,
    servers: Authority,
    pub(super) tls: Arc<Tls>,
    pub(super) crl: PathBuf,
    pub(super) policy: PathBuf,
    pub(super) store: Arc<PolicyStore>,
    _directory: TempDir,
}

fn put(path: &Path, text: &str) -> PathBuf {
    std::fs::write(path, text).expect("written");
    path.to_owned()
}

impl Guarded {
    pub(super) async fn start() -> Self {
        let directory = TempDir::new().expect("a directory");
        let file = |name: &str| directory.path().join(name);
        let (servers, callers) = (Authority::new(), Authority::new());
        let (cert, key) = servers.issue("localhost");
        let files = Files {
            cert: put(&file("tls.crt"), &cert),
            key: put(&file("tls.key"), &key),
            client_ca: Some(put(&file("ca.crt"), &callers.pem())),
            client_crl: Some(put(&file("ca.crl"), &callers.revoke(&[]))),
        };
        let crl = file("ca.crl");
        let tls = Arc::new(Tls::load(files).await.expect("good files"));
        let policy = put(&file("policy.toml"), POLICY);
        let store = Arc::new(PolicyStore::load(policy.clone()).await.expect("a policy"));
        let gateway = Gateway::with(Options {
            tls: Some(tls.clone()),
            access: Arc::new(Access::by(store.clone(), false)),
            ..Options::default()
        });
        let gateway = gateway.await;
        // A call that is allowed is answered at once.
        let refusal = EnsRefusal { code: "InstanceNotFound".to_owned(), ..EnsRefusal::default() };
        gateway.ens.fail(Some(DescribeError::Refused(refusal)));
        Self { gateway, callers, servers, tls, crl, policy, store, _directory: directory }
    }

    /// A caller whose certificate has these names.
    pub(super) fn identity(&self, names: &[SanType]) -> Identity {
        self.certificate(|params| params.subject_alt_names = names.to_vec())
    }

    pub(super) fn certificate(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let (cert, key) = self.callers.sign(params);
        Identity::from_pem(cert, key)
    }

    pub(super) async fn channel(&self, identity: Identity) -> Channel {
        self.connect(identity).await.expect("the transport admits the caller")
    }

    pub(super) async fn connect(&self, identity: Identity) -> Result<Channel, transport::Error> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.servers.pem()))
            .domain_name("localhost")
            .identity(identity);
        Endpoint::from_shared(format!("https://127.0.0.1:{}", self.gateway.address.port()))
            .expect("an endpoint")
            .tls_config(tls)
            .expect("good tls")
            .connect()
            .await
    }
}

pub(super) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ascii"))
}

pub(super) fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().expect("ascii"))
}

/// The RPCs of the descriptor.
pub(super) fn rpcs() -> Vec<String> {
    let files = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
    let services = files.file.iter().filter(|file| file.package() == "eni.gateway.v1");
    let services = services.flat_map(|file| &file.service);
    services.flat_map(|service| &service.method).map(|rpc| rpc.name().to_owned()).collect()
}

/// Makes a call about `eni-1` of the instance, or about the instance.
pub(super) async fn call<T: GrpcService<Body>>(
    service: T,
    rpc: &str,
    instance: &str,
    eni: &str,
) -> Result<(), Status>
where
    T::Error: Into<StdError>,
    T::ResponseBody: http_body::Body<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
{
    let mut client = AttachmentServiceClient::new(service);
    match rpc {
        "AttachNetworkInterface" => {
            client.attach_network_interface(attach(instance, eni)).await.map(drop)
        }
        "BatchAttachNetworkInterfaces" => {
            // A right to one of both is not enough. The check of the slots ends the call at once.
            let request = BatchAttachNetworkInterfacesRequest {
                instance_id: instance.to_owned(),
                network_interface_ids: vec![eni.to_owned(), "eni-2".to_owned()],
                require_all: true,
                ..BatchAttachNetworkInterfacesRequest::default()
            };
            client.batch_attach_network_interfaces(request).await.map(drop)
        }
        "GetAttachment" => client.get_attachment(get(instance, eni)).await.map(drop),
        "ListAttachments" => {
            let request = ListAttachmentsRequest {
                instance_id: instance.to_owned(),
                ..ListAttachmentsRequest::default()
            };
            client.list_attachments(request).await.map(drop)
        }
        "GetInstanceCapacity" => {
            let instance_id = instance.to_owned();
            let request = GetInstanceCapacityRequest { instance_id, max_age: None };
            client.get_instance_capacity(request).await.map(drop)
        }
        "BatchGetInstanceCapacities" => {
            // A right to one of both is not enough.
            let instance_ids = vec!["i-frozen".to_owned(), instance.to_owned()];
            let instance_ids = instance_ids.into_iter().collect::<BTreeSet<_>>();
            let request = BatchGetInstanceCapacitiesRequest {
                instance_ids: instance_ids.into_iter().collect(),
                max_age: None,
            };
            client.batch_get_instance_capacities(request).await.map(drop)
        }
        "WatchAttachment" => {
            let stream = client.watch_attachment(watch(instance, eni, true)).await?;
            stream.into_inner().message().await.map(drop)
        }
        "WatchAttachments" => {
            let request = WatchAttachmentsRequest { follow: true, ..Default::default() };
            let stream = client.watch_attachments(request).await?;
            stream.into_inner().message().await.map(drop)
        }
        rpc => panic!("{rpc} has no case here: add one, so that its refusals are tested"),
    }
}

/// The reason of a refusal by the check of callers; `passes` for any other answer.
fn verdict(answer: Result<(), Status>) -> String {
    let reason = answer.err().and_then(|status| {
        let reason = Reason::named(&status.get_details_error_info()?.reason)?;
        let is_of_caller =
            matches!(reason, Reason::CallerUnauthenticated | Reason::CallerForbidden);
        assert!(!is_of_caller || status.code() as i32 == reason.code().number(), "{status:?}");
        is_of_caller.then_some(reason.name())
    });
    reason.unwrap_or("passes").to_owned()
}

#[tokio::test]
async fn each_caller_has_its_rights_and_no_others() {
    let guarded = Guarded::start().await;
    let web = "spiffe://prod.example/ns/web/sa/api";
    let callers = [
        ("web", vec![uri(web)]),
        ("web beside a dns name", vec![dns("robot.example"), uri(web)]),
        ("another namespace", vec![uri("spiffe://prod.example/ns/db/sa/api")]),
        ("another trust domain", vec![uri("spiffe://evil.example/ns/web/sa/api")]),
        ("two uris", vec![uri(web), uri("spiffe://prod.example/ns/db/sa/api")]),
        ("reader", vec![dns("reader.example")]),
        ("robot", vec![dns("robot.example")]),
        ("two dns names", vec![dns("reader.example"), dns("robot.example")]),
        ("without a name", vec![]),
    ];
    let mut matrix = String::new();
    for (name, names) in callers {
        let channel = guarded.channel(guarded.identity(&names)).await;
        for rpc in rpcs() {
            for instance in ["i-web", "i-db", "i-frozen"] {
                let failure = Failure::new(Reason::EnsCredentialsRejected, "not in this test");
                guarded.gateway.ens.refuse(failure);
                let verdict = verdict(call(channel.clone(), &rpc, instance, "eni-1").await);
                matrix += &format!("{name:22} {rpc:26} {instance:10} {verdict}\n");
            }
        }
    }
    insta::assert_snapshot!(matrix);
}

#[tokio::test]
async fn a_refusal_comes_before_any_look_at_ens() {
    let guarded = Guarded::start().await;
    let reader = guarded.channel(guarded.identity(&[dns("reader.example")])).await;
    let nameless = guarded.channel(guarded.identity(&[])).await;
    let expected = [(&reader, "CALLER_FORBIDDEN"), (&nameless, "CALLER_UNAUTHENTICATED")];
    for (channel, reason) in expected {
        let answer = call(channel.clone(), "AttachNetworkInterface", "i-web", "eni-1").await;
        assert_eq!(verdict(answer), reason);
    }
    assert_eq!(guarded.gateway.ens.calls(), []);
}

#[tokio::test]
async fn a_right_to_one_eni_is_no_right_to_the_instance() {
    let guarded = Guarded::start().await;
    let robot = guarded.channel(guarded.identity(&[dns("robot.example")])).await;
    for (eni, expected) in
        [("eni-1", "passes"), ("eni-2", "CALLER_FORBIDDEN"), ("", "CALLER_FORBIDDEN")]
    {
        assert_eq!(
            verdict(call(robot.clone(), "WatchAttachment", "i-web", eni).await),
            expected,
            "{eni}"
        );
    }
}

#[tokio::test]
async fn health_is_open_and_reflection_is_not() {
    let guarded = Guarded::start().await;
    let nameless = guarded.channel(guarded.identity(&[])).await;
    let health = HealthClient::new(nameless.clone()).check(HealthCheckRequest::default()).await;
    assert!(health.is_ok(), "{health:?}");
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    let requests = tokio_stream::iter([ServerReflectionRequest::default()]);
    let refused = ServerReflectionClient::new(nameless).server_reflection_info(requests).await;
    assert_eq!(refused.expect_err("it has no identity").code(), Code::Unauthenticated);
}

/// The reason for which the stream ends.
pub(super) async fn end(stream: &mut tonic::Streaming<impl Sized>) -> Status {
    let end = async {
        loop {
            match stream.message().await {
                Ok(message) => assert!(message.is_some(), "it ended with OK"),
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(LONG, end).await.expect("the stream ends")
}

#[tokio::test]
async fn a_right_that_is_taken_away_ends_the_stream() {
    let guarded = Guarded::start().await;
    guarded.gateway.ens.fail(None);
    let open = async |name: &str| {
        let channel = guarded.channel(guarded.identity(&[dns(name)])).await;
        let mut client = AttachmentServiceClient::new(channel);
        let stream = client.watch_attachment(watch("i-web", "eni-1", true)).await;
        let mut stream = stream.expect("allowed").into_inner();
        stream.message().await.expect("the first heartbeat");
        stream
    };
    let (mut reader, mut robot) = (open("reader.example").await, open("robot.example").await);
    put(&guarded.policy, &POLICY.replace("reader.example", "another.example"));
    assert!(guarded.store.reload().await.expect("a policy"));
    let status = end(&mut reader).await;
    assert_eq!((status.code(), &*reason(&status)), (Code::PermissionDenied, "CALLER_FORBIDDEN"));

    // The other caller kept its right, until its stream ends for another reason.
    guarded.gateway.stop();
    assert_eq!(reason(&end(&mut robot).await), "DRAINING");
}

#[tokio::test]
async fn a_stream_ends_before_its_certificate_expires() {
    let guarded = Guarded::start().await;
    guarded.gateway.ens.fail(None);
    let expires = std::time::SystemTime::now() + Duration::from_secs(5);
    let identity = guarded.certificate(|params| {
        params.subject_alt_names = vec![dns("reader.example")];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = expires.into();
    });
    let mut client = AttachmentServiceClient::new(guarded.channel(identity).await);
    let stream = client.watch_attachment(watch("i-web", "eni-1", true)).await;
    let mut stream = stream.expect("not yet expired").into_inner();
    let status = end(&mut stream).await;
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "STREAM_TOO_OLD"));

    // The connection stays open, and its calls are refused.
    let left = expires.duration_since(std::time::SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(left + Duration::from_secs(1)).await;
    let refused = client.get_attachment(get("i-web", "eni-1")).await.expect_err("expired");
    assert_eq!(reason(&refused), "CALLER_UNAUTHENTICATED");
}
