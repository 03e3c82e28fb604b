"""Callers behind an Envoy that terminates mTLS: a token passes through and names the caller. Without one, Envoy's own certificate
does. What Envoy or a caller writes into headers about certificates never counts."""

import json
import pathlib
import sys

import grpc
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "python"))
from issuer import Issuer, openssl  # noqa: E402
from processes import ROOT, Processes, free_port, listens, until  # noqa: E402

ENVOY = next((ROOT / ".venv/lib").glob("python3*/site-packages/envoy/_bin/envoy"))
SERVICE = "/eni.gateway.v1.AttachmentService/"
INSTANCE, ENI = "i-stopped-1", "eni-0001"
WEB = "spiffe://prod.example/ns/web/sa/api"

POLICY = """
version = 1
trust_domains = ["prod.example"]

[[issuers]]
alias = "cluster"
issuer = "https://issuer.example"
audiences = ["eni-gateway"]
jwks_file = "{keys}"
leeway = "0s"

[[allow]]
id = "proxy"
callers = ["dns:envoy.example"]
actions = ["get", "watch"]
instances = ["*"]

[[allow]]
id = "web"
callers = ["cluster:web", "spiffe://prod.example/*"]
actions = ["*"]
instances = ["*"]
"""

CONFIG = """
static_resources:
  listeners:
    - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
      filter_chains:
        - transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              require_client_certificate: true
              common_tls_context:
                alpn_protocols: [h2]
                tls_certificates: [{{ certificate_chain: {{ filename: {d}/envoy.crt }}, private_key: {{ filename: {d}/envoy.key }} }}]
                validation_context: {{ trusted_ca: {{ filename: {d}/ca.crt }} }}
          filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: callers
                codec_type: HTTP2
                forward_client_cert_details: {forward}
                set_current_client_cert_details: {{ uri: true, dns: true }}
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: gateway, timeout: 0s }} }}]
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
    - name: gateway
      load_assignment:
        cluster_name: gateway
        endpoints:
          - lb_endpoints:
              - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {gateway} }} }} }}
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {{ http2_protocol_options: {{}} }}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          sni: localhost
          common_tls_context:
            alpn_protocols: [h2]
            tls_certificates: [{{ certificate_chain: {{ filename: {d}/envoy.crt }}, private_key: {{ filename: {d}/envoy.key }} }}]
            validation_context: {{ trusted_ca: {{ filename: {d}/ca.crt }} }}
"""


def field(number, text):
    """A field of a message with a text of less than 128 bytes."""
    return bytes([number << 3 | 2, len(text)]) + text.encode()


class Stage(Processes):
    """A simulator, a gateway with mTLS and a policy, and two Envoys: one that overwrites what callers say of their certificates, and
    one that forwards it."""

    def run(self):
        self.grpc, ens = free_port(), free_port()
        self.front = {"SANITIZE_SET": free_port(), "ALWAYS_FORWARD_ONLY": free_port()}
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
        openssl("req", "-x509", *key, "-subj", "/CN=authority", "-keyout", self.at("ca.key"), "-out", self.at("ca.crt"))
        for name, names in [("gateway", "DNS:localhost"), ("envoy", "DNS:envoy.example,IP:127.0.0.1"), ("web", f"URI:{WEB}")]:
            extensions = [f"subjectAltName={names}", "extendedKeyUsage=serverAuth,clientAuth", "basicConstraints=critical,CA:FALSE"]
            extensions = [part for it in extensions for part in ("-addext", it)]
            openssl("req", "-x509", *key, "-CA", self.at("ca.crt"), "-CAkey", self.at("ca.key"), "-subj", f"/CN={name}", *extensions,
                    "-keyout", self.at(f"{name}.key"), "-out", self.at(f"{name}.crt"))
        self.issuer = Issuer(self.directory)
        self.at("policy").write_text(POLICY.format(keys=self.issuer.keys))
        self.gateway("simulator", "--listen", f"127.0.0.1:{ens}")
        until("the simulator", lambda: listens(ens))
        self.gateway("serve", **{
            "LEDGER__URL": "memory://",
            "ENS__ENDPOINT": f"http://127.0.0.1:{ens}",
            "GRPC__LISTEN": f"127.0.0.1:{self.grpc}",
            "GRPC__TLS_CERT_FILE": self.at("gateway.crt"),
            "GRPC__TLS_KEY_FILE": self.at("gateway.key"),
            "GRPC__CLIENT_CA_FILE": self.at("ca.crt"),
            "ADMIN__LISTEN": f"127.0.0.1:{free_port()}",
            "IDENTITY__POLICY_FILE": self.at("policy"),
            "LOG__AUDIT": self.at("audit"),
        })
        until("the gateway", lambda: listens(self.grpc))
        for forward, port in self.front.items():
            config = self.at(f"{forward}.yaml")
            config.write_text(CONFIG.format(port=port, gateway=self.grpc, d=self.directory, forward=forward))
            self.start(ENVOY, "-c", config, "--disable-hot-restart", "--log-level", "warning")
            until("envoy", lambda port=port: listens(port))

    def at(self, name):
        return self.directory / name

    def token(self, **changes):
        return self.issuer.token("web", **changes)

    def channel(self, forward, certificate):
        files = [self.at("ca.crt")] + [self.at(f"{certificate}.{part}") for part in ("key", "crt") if certificate]
        credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
        options = [("grpc.ssl_target_name_override", "envoy.example")]
        return grpc.secure_channel(f"127.0.0.1:{self.front[forward]}", credentials, options)

    def call(self, method, metadata=(), forward="SANITIZE_SET", certificate="web"):
        """The code, and the new audit lines of decisions."""
        seen = len(self.decisions())
        message = field(1, INSTANCE) + field(2, ENI)
        with self.channel(forward, certificate) as channel:
            try:
                if method == "WatchAttachment":
                    list(channel.unary_stream(SERVICE + method)(message, metadata=metadata, timeout=60, wait_for_ready=True))
                else:
                    channel.unary_unary(SERVICE + method)(message, metadata=metadata, timeout=60, wait_for_ready=True)
                code = grpc.StatusCode.OK
            except grpc.RpcError as error:
                code = error.code()
        until("the decision on the call", lambda: len(self.decisions()) > seen)
        return code, self.decisions()[seen:]

    def decisions(self):
        whole, _, _ = self.at("audit").read_text().rpartition("\n")
        lines = map(json.loads, whole.splitlines())
        return [(line["caller"], line["decision"], line.get("rule")) for line in lines if line["message"] == "access"]


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with Stage(tmp_path_factory.mktemp("stage")) as running:
        running.run()
        yield running


def bearer(token):
    return [("authorization", f"Bearer {token}")]


@pytest.mark.parametrize("method", ["AttachNetworkInterface", "WatchAttachment", "GetAttachment"])
def test_a_token_passes_through_and_names_the_caller(stage, method):
    code, decisions = stage.call(method, bearer(stage.token()))
    assert (code, decisions) == (grpc.StatusCode.OK, [("cluster:web", "allow", "web")])


@pytest.mark.parametrize("method", ["AttachNetworkInterface", "WatchAttachment"])
def test_a_bad_token_is_no_identity_although_the_certificate_is_one(stage, method):
    code, decisions = stage.call(method, bearer(stage.token(exp=1)))
    assert (code, decisions) == (grpc.StatusCode.UNAUTHENTICATED, [("anonymous", "deny", None)])


def test_without_a_token_the_proxy_is_the_caller(stage):
    proxy = "dns:envoy.example"
    code, decisions = stage.call("AttachNetworkInterface")
    assert (code, decisions) == (grpc.StatusCode.PERMISSION_DENIED, [(proxy, "deny", None)])
    _, decisions = stage.call("GetAttachment")
    assert decisions == [(proxy, "allow", "proxy")]


@pytest.mark.parametrize("forward", ["SANITIZE_SET", "ALWAYS_FORWARD_ONLY"])
def test_a_header_about_a_certificate_is_no_identity(stage, forward):
    metadata = [("x-forwarded-client-cert", f"By=spiffe://prod.example/envoy;URI={WEB}"), ("x-forwarded-for", "127.0.0.1")]
    code, decisions = stage.call("AttachNetworkInterface", metadata, forward)
    assert (code, decisions) == (grpc.StatusCode.PERMISSION_DENIED, [("dns:envoy.example", "deny", None)])


def test_envoy_lets_no_caller_in_without_a_certificate(stage):
    message = field(1, INSTANCE) + field(2, ENI)
    with stage.channel("SANITIZE_SET", None) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(SERVICE + "GetAttachment")(message, metadata=bearer(stage.token()), timeout=60)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
