"""The API as JSON over HTTP: the chart's Envoy in front of a real gateway and a simulated ENS."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import time

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = ROOT / "target/debug/eni-gateway"
ENVOY = next((ROOT / ".venv/lib").glob("python3*/site-packages/envoy/_bin/envoy"))
HELM = ROOT / "target/chart-tools/helm-4.1.4"
SERVICE = "/eni.gateway.v1.AttachmentService/"
KEY = {f"ALIBABA_CLOUD_ACCESS_KEY_{part}": "simulator" for part in ("ID", "SECRET")}


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def until(what, holds, patience=60):
    """Waits until it holds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if holds():
                return
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {patience} s")


def listens(port):
    return socket.create_connection(("127.0.0.1", port), 1).close() is None


class Stage:
    """Simulator, gateway and Envoy. All of them end with it."""

    def __init__(self, directory, tls=None):
        self.directory, self.tls, self.processes = directory, tls, contextlib.ExitStack()
        self.ens, self.grpc, self.json = free_port(), free_port(), free_port()

    def __enter__(self):
        with self.processes as undo:
            self.start("simulator", PROGRAM, "simulator", "--listen", f"127.0.0.1:{self.ens}", **KEY)
            until("the simulator", lambda: listens(self.ens))
            tls = {"ALLOW_PLAINTEXT": "true"}
            if self.tls:
                tls = {"TLS_CERT_FILE": self.tls / "tls.crt", "TLS_KEY_FILE": self.tls / "tls.key"}
            settings = {f"GRPC__{name}": str(value) for name, value in tls.items()} | {
                "LEDGER__URL": "memory://",
                "ENS__ENDPOINT": f"http://127.0.0.1:{self.ens}",
                "GRPC__LISTEN": f"127.0.0.1:{self.grpc}",
                "ADMIN__LISTEN": f"127.0.0.1:{free_port()}",
            }
            self.start("gateway", PROGRAM, "serve", **KEY, **{f"ENI_GATEWAY_{n}": v for n, v in settings.items()})
            until("the gateway", lambda: listens(self.grpc))
            descriptors = self.directory / "eni-gateway.binpb"
            subprocess.run([PROGRAM, "descriptors", descriptors], check=True)
            config = self.directory / "envoy.yaml"
            config.write_text(self.config(descriptors))
            self.start("envoy", ENVOY, "-c", config, "--disable-hot-restart", "--log-level", "warning")
            until("envoy", lambda: listens(self.json))
            self.processes = undo.pop_all()
        return self

    def __exit__(self, *_):
        self.processes.close()

    def config(self, descriptors):
        """What the chart renders, with the paths and ports of this stage."""
        values = ["json.enabled=true", f"json.port={self.json}", f"config.grpc.listen=0.0.0.0:{self.grpc}",
                  "config.ledger.url=redis://redis:6379/0", "credentials.mode=secret", "credentials.secret.name=key"]
        values.append("tls.secretName=gateway-tls" if self.tls else "config.grpc.allow_plaintext=true")
        options = [part for value in values for part in ("--set", value)]
        command = [HELM, "template", "gw", ROOT / "helm", "--show-only", "templates/envoy.yaml", *options]
        rendered = subprocess.run(command, capture_output=True, text=True, check=False)
        assert rendered.returncode == 0, rendered.stderr
        config = yaml.safe_load(rendered.stdout)["data"]["envoy.yaml"]
        config = config.replace("/etc/envoy/descriptors/eni-gateway.binpb", str(descriptors))
        config = config.replace("/etc/envoy/tls", str(self.tls)) if self.tls else config
        # Loopback in its older form: machines without IPv6 run this too.
        return re.sub(r"address: ('::'|\"::\"|::)$", "address: 127.0.0.1", config, flags=re.M).replace("ipv4_compat: true", "ipv4_compat: false")

    def start(self, name, *command, **environment):
        keep = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        log = self.processes.enter_context(open(self.directory / f"{name}.log", "ab"))
        process = subprocess.Popen([str(part) for part in command], env=keep | environment, stdout=log, stderr=log)
        self.processes.callback(process.wait)
        self.processes.callback(process.kill)

    def connect(self):
        if not self.tls:
            return http.client.HTTPConnection("127.0.0.1", self.json, timeout=60)
        context = ssl.create_default_context(cafile=self.tls / "tls.crt")
        return http.client.HTTPSConnection("localhost", self.json, timeout=60, context=context)

    def send(self, method, body, headers=None, verb="POST"):
        """The response, whose body is still to be read."""
        connection = self.connect()
        body = body if isinstance(body, str) else json.dumps(body)
        connection.request(verb, SERVICE + method, body, {"content-type": "application/json"} | (headers or {}))
        return connection.getresponse()

    def call(self, method, body, **more):
        """The status and the answer of a call."""
        response = self.send(method, body, **more)
        text = response.read().decode()
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, text


@pytest.fixture(scope="module", params=["plaintext", "tls"])
def stage(request, tmp_path_factory):
    tls = None
    if request.param == "tls":
        tls = tmp_path_factory.mktemp("tls")
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "1"]
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", tls / "tls.key"]
        subprocess.run(["openssl", "req", "-x509", *key, "-out", tls / "tls.crt", *subject], check=True, capture_output=True)
    with Stage(tmp_path_factory.mktemp("stage"), tls) as running:
        yield running


def details(status):
    """The details of a google.rpc.Status by their type's last word."""
    return {detail["@type"].rpartition(".")[2]: detail for detail in status["details"]}


def test_an_attach_is_accepted_watched_and_read(stage):
    pair = {"instance_id": "i-stopped-1", "network_interface_id": "eni-0001"}
    status, accepted = stage.call("AttachNetworkInterface", pair)
    assert status == 200, accepted
    assert accepted["attachment"]["instanceId"] == "i-stopped-1" and accepted["attachment"]["uid"]

    stream = stage.send("WatchAttachment", pair)
    assert stream.status == 200
    lines = [json.loads(line) for line in stream.read().splitlines()]
    assert lines[-1]["attachment"]["state"] == "STATE_ATTACHED", lines

    status, found = stage.call("GetAttachment", pair)
    assert (status, found["attachment"]["state"]) == (200, "STATE_ATTACHED")
    # Names of fields in JSON's own form.
    status, page = stage.call("ListAttachments", {"instanceId": "i-stopped-1"})
    assert status == 200 and page["incomplete"] is False
    assert [attachment["networkInterfaceId"] for attachment in page["attachments"]] == ["eni-0001"]


def test_a_message_of_a_watch_arrives_before_the_next(stage):
    stream = stage.send("WatchAttachment", {"instance_id": "i-stopped-2", "follow": True})
    first = json.loads(stream.readline())
    assert set(first) <= {"attachment", "heartbeat"} and first
    pair = {"instance_id": "i-stopped-2", "network_interface_id": "eni-0002"}
    assert stage.call("AttachNetworkInterface", pair)[0] == 200
    while True:
        attachment = json.loads(stream.readline()).get("attachment")
        if attachment and attachment["state"] == "STATE_ATTACHED":
            break
    assert attachment["networkInterfaceId"] == "eni-0002"
    stream.close()


@pytest.mark.parametrize("method, body, http_status, code, reason", [
    ("AttachNetworkInterface", {"instance_id": "no id", "network_interface_id": "eni-0003"}, 400, 3, "INVALID_FIELD"),
    ("AttachNetworkInterface", {"instance_id": "i-unknown", "network_interface_id": "eni-0003"}, 404, 5, "INSTANCE_NOT_FOUND"),
    ("GetAttachment", {"instance_id": "i-stopped-1", "network_interface_id": "eni-0009"}, 404, 5, "ATTACHMENT_NOT_FOUND"),
    ("WatchAttachment", {"instance_id": "no id"}, 400, 3, "INVALID_FIELD"),
])
def test_an_error_is_a_whole_status(stage, method, body, http_status, code, reason):
    status, error = stage.call(method, body)
    assert (status, error["code"]) == (http_status, code), error
    info = details(error)["ErrorInfo"]
    assert info["reason"] == reason and error["message"]


@pytest.mark.parametrize("body, headers", [
    ('{"instance_id": ', {}),
    ({"instance_id": "i-stopped-1", "no_such_field": 1}, {}),
])
def test_what_is_no_message_is_refused_by_envoy(stage, body, headers):
    status, text = stage.call("GetAttachment", body, headers=headers)
    assert status == 400, text


@pytest.mark.parametrize("headers", [
    {"origin": "https://elsewhere.example", "content-type": "text/plain"},
    {"sec-fetch-site": "cross-site"},
])
def test_a_page_of_another_site_cannot_call(stage, headers):
    pair = {"instance_id": "i-stopped-2", "network_interface_id": "eni-0004"}
    status, _ = stage.call("AttachNetworkInterface", pair, headers=headers)
    assert status == 403
    assert stage.call("GetAttachment", pair)[0] == 404


def test_a_method_that_does_not_exist_is_not_found(stage):
    assert stage.call("NoSuchMethod", {})[0] == 404
    assert stage.call("GetAttachment", "", verb="GET")[0] in (404, 405)
