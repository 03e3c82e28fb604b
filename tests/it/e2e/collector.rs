//! A collector that takes no traces: the log says why, once, and what to do.

use rcgen::CertificateParams;
use tempfile::TempDir;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::support::authority::Authority;
use crate::support::collector::Collector;
use crate::support::gateway::{Stage, eventually, get};
use crate::support::redis::free_port;

/// Files with certificates.
struct Files(TempDir);

impl Files {
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// What a replica logs that exports to this collector: the causes, in order.
async fn logged(stage: &Stage, endpoint: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let settings = [
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "50")],
        variables,
    ]
    .concat();
    let replica = stage.replica(&settings).await;
    let client = replica.channel().await;
    eventually("nothing is logged", async || {
        // Each call is a span to export.
        let _ = get(&client, "i-1", "eni-0001").await;
        replica.log().contains("traces are not exported")
    })
    .await;
    causes(&replica.log())
}

fn causes(log: &str) -> Vec<String> {
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let lines = lines.filter(|line| line["message"] == "traces are not exported");
    lines.map(|line| line["why"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_of_tls_has_its_cause_and_its_remedy() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let stage = Stage::new(&["i-1"], 1).await;
    let files = Files(TempDir::new().unwrap());
    let (ours, theirs) = (Authority::new(), Authority::new());
    let identity = |(chain, key): (String, String)| Identity::from_pem(chain, key);
    let tls = |signed| ServerTlsConfig::new().identity(identity(signed));
    let (trusted, foreign) = (files.write("ca", &ours.pem()), files.write("other", &theirs.pem()));
    let ours_file = [("OTEL_EXPORTER_OTLP_CERTIFICATE", trusted.as_str())];
    let theirs_file = [("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", foreign.as_str())];

    let collector = Collector::on("127.0.0.1:0", Some(tls(ours.issue("localhost")))).await;
    let said = logged(&stage, &collector.endpoint, &theirs_file).await;
    let expected = "its certificate is from an authority that is not trusted; set \
        OTEL_EXPORTER_OTLP_CERTIFICATE to the CA certificate of the collector";
    assert_eq!(said, [expected]);
    let plain = collector.endpoint.replace("https:", "http:");
    let said = logged(&stage, &plain, &[]).await;
    let expected = "the server there uses TLS; begin OTEL_EXPORTER_OTLP_ENDPOINT with https://";
    assert_eq!(said, [expected]);

    let misnamed = Collector::on("127.0.0.1:0", Some(tls(ours.issue("elsewhere")))).await;
    let said = logged(&stage, &misnamed.endpoint, &ours_file).await;
    let expected = "its certificate is for elsewhere, not for localhost; use a name of the \
        certificate in OTEL_EXPORTER_OTLP_ENDPOINT";
    assert_eq!(said, [expected]);

    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let own = Collector::on("127.0.0.1:0", Some(tls(ours.sign(params)))).await;
    let said = logged(&stage, &own.endpoint, &ours_file).await;
    assert!(said.len() == 1 && said[0].contains("CA:TRUE"), "{said:?}");

    let unencrypted = Collector::start().await;
    let said = logged(&stage, &unencrypted.endpoint.replace("http:", "https:"), &ours_file).await;
    let expected = "the server there does not use TLS; begin OTEL_EXPORTER_OTLP_ENDPOINT with \
        http://, or correct the address";
    assert_eq!(said, [expected]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_requires_a_certificate_gets_one() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let stage = Stage::new(&["i-1"], 1).await;
    let files = Files(TempDir::new().unwrap());
    let ours = Authority::new();
    let (chain, key) = ours.issue("localhost");
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(chain, key))
        .client_ca_root(Certificate::from_pem(ours.pem()));
    let collector = Collector::on("127.0.0.1:0", Some(tls)).await;
    let trusted = files.write("ca", &ours.pem());
    let trusting = [("OTEL_EXPORTER_OTLP_CERTIFICATE", trusted.as_str())];
    let said = logged(&stage, &collector.endpoint, &trusting).await;
    let expected = "it requires a client certificate; set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE \
        and OTEL_EXPORTER_OTLP_CLIENT_KEY";
    assert_eq!(said, [expected]);

    let (chain, key) = ours.issue("gateway");
    let (chain, key) = (files.write("chain", &chain), files.write("key", &key));
    let settings = [
        trusting[0],
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", chain.as_str()),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    let replica = stage.replica(&settings).await;
    let client = replica.channel().await;
    eventually("no span arrives", async || {
        let _ = get(&client, "i-1", "eni-0001").await;
        !collector.spans().is_empty()
    })
    .await;
    assert_eq!(causes(&replica.log()), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_logged_when_it_begins_and_when_it_ends() {
    let stage = Stage::new(&["i-1"], 1).await;
    let address = format!("127.0.0.1:{}", free_port());
    let endpoint = format!("http://{address}");
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        // As in the chart.
        ("RUST_LOG", "info"),
    ];
    let replica = stage.replica(&settings).await;
    let client = replica.channel().await;
    let says = async |line: &str| {
        eventually(line, async || {
            let _ = get(&client, "i-1", "eni-0001").await;
            replica.log().contains(line)
        })
        .await;
    };
    says("traces are not exported").await;
    let said = causes(&replica.log());
    assert!(said[0].starts_with("Unavailable: "), "{said:?}");
    assert!(said[0].contains("Connection refused"), "{said:?}");
    let collector = Collector::on(&address, None).await;
    says("traces are exported again").await;
    assert!(!collector.spans().is_empty());
    for library in ["BatchSpanProcessor", "opentelemetry-otlp"] {
        assert!(!replica.log().contains(library), "{}", replica.log());
    }
}
