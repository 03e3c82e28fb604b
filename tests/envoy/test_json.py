"""The API as JSON over HTTP: the chart's Envoy in front of a real gateway and a simulated ENS."""

import http.client
import json
import pathlib
import re
import ssl
import subprocess
import sys

import pytest
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "python"))
from processes import PROGRAM, ROOT, Processes, free_port, listens, until  # noqa: E402

ENVOY = next((ROOT / ".venv/lib").glob("python3*/site-packages/envoy/_bin/envoy"))
HELM = ROOT / "target/chart-tools/helm-4.1.4"
SERVICE = "/eni.gateway.v1.AttachmentService/"
# Instances whose attachments are more than Envoy's buffer of a connection.
MANY = {f"i-many-{number}-{'x' * 80}": [f"eni-many-{number}-{index}-{'y' * 80}" for index in range(10)] for number in range(40)}


class Stage(Processes):
    """Simulator, gateway and Envoy."""

    def __init__(self, directory, tls=None):
        super().__init__(directory)
        self.tls = tls
        self.ens, self.grpc, self.json = free_port(), free_port(), free_port()

    def run(self):
        """Starts all of them, each once the one that it needs listens."""
        world = subprocess.run([PROGRAM, "simulator", "--print-world"], check=True, capture_output=True, text=True).stdout
        many = [f'[[instances]]\nid = "{instance}"\n' for instance in MANY]
        many += [f'[[enis]]\nid = "{eni}"\n' for enis in MANY.values() for eni in enis]
        file = self.directory / "world.toml"
        file.write_text("\n".join([world, *many]))
        self.gateway("simulator", "--listen", f"127.0.0.1:{self.ens}", "--world", file)
        until("the simulator", lambda: listens(self.ens))
        tls = {"GRPC__ALLOW_PLAINTEXT": "true"}
        if self.tls:
            tls = {"GRPC__TLS_CERT_FILE": self.tls / "tls.crt", "GRPC__TLS_KEY_FILE": self.tls / "tls.key"}
        settings = tls | {
            "LEDGER__URL": "memory://",
            "ENS__ENDPOINT": f"http://127.0.0.1:{self.ens}",
            "ENS__ATTACH_PER_SECOND": 200,
            "ENS__DESCRIBE_PER_SECOND": 200,
            "GRPC__LISTEN": f"127.0.0.1:{self.grpc}",
            "ADMIN__LISTEN": f"127.0.0.1:{free_port()}",
        }
        self.gateway("serve", **settings)
        until("the gateway", lambda: listens(self.grpc))
        descriptors = self.directory / "eni-gateway.binpb"
        subprocess.run([PROGRAM, "descriptors", descriptors], check=True)
        config = self.directory / "envoy.yaml"
        config.write_text(self.config(descriptors))
        self.start(ENVOY, "-c", config, "--disable-hot-restart", "--log-level", "warning")
        until("envoy", lambda: listens(self.json))

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
        running.run()
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


def test_a_batch_has_a_result_for_each_interface(stage):
    asked = {"instance_id": "i-stopped-3", "network_interface_ids": ["eni-0021", "eni-unknown", "eni-0022"]}
    status, answer = stage.call("BatchAttachNetworkInterfaces", asked)
    assert status == 200, answer
    first, unknown, last = answer["results"]
    assert first["attachment"]["uid"] and last["attachment"]["uid"], answer
    assert unknown["error"]["reason"] == "ENI_NOT_FOUND" and unknown["networkInterfaceId"] == "eni-unknown"
    stream = stage.send("WatchAttachment", {"instance_id": "i-stopped-3"})
    lines = [json.loads(line) for line in stream.read().splitlines()]
    states = {line["attachment"]["networkInterfaceId"]: line["attachment"]["state"] for line in lines if "attachment" in line}
    assert states["eni-0021"] == states["eni-0022"] == "STATE_ATTACHED", lines


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


def test_all_instances_are_watched_and_listed(stage):
    pair = {"instance_id": "i-stopped-2", "network_interface_id": "eni-0005"}
    assert stage.call("AttachNetworkInterface", pair)[0] == 200
    scope = {"instance_prefix": "i-stopped-2", "states": ["STATE_ATTACHED"], "follow": True}
    stream, shown, token = stage.send("WatchAttachments", scope), set(), None
    while "eni-0005" not in shown or not token:
        message = json.loads(stream.readline())
        token = message.get("heartbeat", {}).get("resumeToken", token)
        if "instance" in message:
            assert message["instance"]["instanceId"] == "i-stopped-2"
            shown = {attachment["networkInterfaceId"] for attachment in message["instance"]["attachments"]}
    stream.close()

    # A token from before the last change resumes, and a whole list has what was shown.
    stream = stage.send("WatchAttachments", scope | {"resume_token": token, "follow": False})
    resumed = [json.loads(line) for line in stream.read().splitlines()]
    assert resumed[-1]["heartbeat"]["incomplete"] is False, resumed
    listed, page_token = set(), ""
    while True:
        asked = {"instance_id": "-", "states": ["STATE_ATTACHED"], "page_size": 1, "page_token": page_token}
        status, page = stage.call("ListAttachments", asked)
        assert status == 200, page
        listed |= {attachment["networkInterfaceId"] for attachment in page["attachments"]}
        page_token = page["nextPageToken"]
        if not page_token:
            break
    assert shown <= listed, listed


def test_a_large_response_arrives_whole(stage):
    for instance, enis in MANY.items():
        status, answer = stage.call("BatchAttachNetworkInterfaces", {"instance_id": instance, "network_interface_ids": enis})
        assert status == 200 and all("attachment" in result for result in answer["results"]), answer
    scope = {"instance_prefix": "i-many-"}
    stage.send("WatchAttachments", scope).read()
    # Everything is attached now, and comes at once.
    text = stage.send("WatchAttachments", scope).read().decode()
    messages = [json.loads(line) for line in text.splitlines()]
    shown = {message["instance"]["instanceId"]: message["instance"]["attachments"] for message in messages if "instance" in message}
    assert {instance: len(attachments) for instance, attachments in shown.items()} == dict.fromkeys(MANY, 10)
    assert len(text) > 200_000 and "heartbeat" in messages[-1]
    status, page = stage.call("ListAttachments", {"instance_id": "-", "page_size": 100})
    assert (status, len(page["attachments"])) == (200, 100), page


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
