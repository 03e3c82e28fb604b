"""What the image is, and that it works without a shell, libraries and files of others."""

import json
import os
import signal
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest
from conftest import IMAGE, ROOT, ask, container, env, podman

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
GATEWAY = env(
    ALIBABA_CLOUD_ACCESS_KEY_ID="simulator-access-key-id",
    ALIBABA_CLOUD_ACCESS_KEY_SECRET="simulator-access-key-secret",
    ENI_GATEWAY_ENS__ENDPOINT="https://ens.test:8443",
    ENI_GATEWAY_LEDGER__URL="redis://redis.test:6379/0",
    ENI_GATEWAY_LEDGER__FRESH="true",
    ENI_GATEWAY_GRPC__ALLOW_PLAINTEXT="true",
)


def inspect(image):
    return json.loads(
        subprocess.run(podman("image", "inspect", image), check=True, capture_output=True).stdout
    )[0]


@pytest.mark.skipif(not os.environ.get("TWICE"), reason="tests/image/run --twice builds two")
def test_two_builds_have_the_same_digest():
    first, second = inspect(IMAGE), inspect("localhost/eni-gateway:second")
    assert (first["Id"], first["Digest"]) == (second["Id"], second["Digest"])


def test_it_is_small_and_says_what_it_is():
    image = inspect(IMAGE)
    assert image["Size"] < 25_000_000, image["Size"]
    config = image["Config"]
    assert config["User"] == "65532:65532"
    assert config["ExposedPorts"].keys() == {"50051/tcp", "9090/tcp"}
    assert "ENI_GATEWAY_GRPC__LISTEN=0.0.0.0:50051" in config["Env"]
    assert "ENI_GATEWAY_ADMIN__LISTEN=0.0.0.0:9090" in config["Env"]
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in config["Labels"].items()
    }
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    assert labels["title"] == "eni-gateway" and labels["licenses"] == "Apache-2.0"
    assert (labels["version"], labels["revision"]) == (version, os.environ["COMMIT"])
    assert labels["source"] and "@" not in labels["source"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The image's files, in a folder."""
    folder = tmp_path_factory.mktemp("files")
    name = subprocess.run(
        podman("create", IMAGE), check=True, capture_output=True, text=True
    ).stdout.strip()
    exported = subprocess.Popen(podman("export", name), stdout=subprocess.PIPE)
    subprocess.run(
        ["tar", "-x", "-C", folder, "usr", "etc/ssl"], stdin=exported.stdout, check=True
    )
    subprocess.run(podman("rm", name), check=True, capture_output=True)
    return folder


def test_it_holds_four_files(files):
    ours = {str(path.relative_to(files)) for path in files.rglob("*") if path.is_file()}
    assert ours == {
        "usr/local/bin/eni-gateway",
        BUNDLE.removeprefix("/"),
        "usr/share/doc/eni-gateway/LICENSE",
        "usr/share/doc/eni-gateway/sbom.cdx.json",
    }


def test_it_lists_what_is_linked(files):
    documents = files / "usr/share/doc/eni-gateway"
    assert (documents / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    parts = json.loads((documents / "sbom.cdx.json").read_text())
    assert parts["metadata"]["component"]["name"] == "eni-gateway"
    names = {part["name"] for part in parts["components"]}
    assert {"tonic", "rustls", "redis"} <= names
    # For the build and for tests alone, or for the compiler.
    assert not {"protox", "proptest", "serde_derive"} & names
    for part in parts["components"]:
        assert part["licenses"] and part["hashes"], part["name"]


def test_the_version_names_the_commit():
    assert f"({os.environ['COMMIT']})" in ask("--version").stdout


def test_plaintext_for_everybody_has_to_be_wanted():
    refused = ask("check", "--offline", options=env(ENI_GATEWAY_LEDGER__URL="memory://"))
    assert refused.returncode == 64
    assert "grpc.allow_plaintext" in refused.stderr, refused.stderr


def test_names_are_looked_up_and_certificates_judged_by_the_bundle(cloud, authority):
    def check(*options):
        return ask("check", options=[*GATEWAY, *options])

    trusted = check("--volume", f"{authority[0]}:{BUNDLE}:ro")
    assert trusted.returncode == 0, trusted.stdout + trusted.stderr
    assert "a signed read of ENIs took" in trusted.stdout
    assert {name for name, _ in cloud.asked} >= {"ens.test", "redis.test"}
    # The image's own bundle does not hold the test's CA.
    stranger = check()
    assert stranger.returncode == 69, stranger.stdout + stranger.stderr
    assert (
        "certificate" in stranger.stdout.lower() or "UnknownIssuer" in stranger.stdout
    ), stranger.stdout
    unknown = check(*env(ENI_GATEWAY_ENS__ENDPOINT="https://nowhere.test"))
    assert unknown.returncode == 69
    assert ("nowhere.test", 1) in cloud.asked


@pytest.fixture
def gateway(cloud, start, authority):
    return start(
        container("serve", options=[*GATEWAY, "--volume", f"{authority[0]}:{BUNDLE}:ro"]), 50051
    )


def test_it_serves_an_external_client_and_stops_at_sigterm(gateway):
    def call(rpc, **request):
        pair = {"instance_id": "i-stopped-1", "network_interface_id": "eni-0001", **request}
        calls = json.dumps(
            [{"target": "127.0.0.1:50051", "rpc": rpc, "request": pair, "timeout": 30}]
        )
        client = [sys.executable, ROOT / "tests/python/gateway_client.py"]
        output = subprocess.run(client, input=calls, check=True, capture_output=True, text=True)
        return json.loads(output.stdout)[0]

    attached = call("AttachNetworkInterface")
    assert attached["code"] == "OK", attached
    watched = call("WatchAttachment")
    assert (
        watched["code"] == "OK"
        and watched["messages"][-1]["attachment"]["state"] == "STATE_ATTACHED"
    ), watched
    with urllib.request.urlopen("http://127.0.0.1:9090/readyz") as ready:
        assert ready.status == 200
    gateway.send_signal(signal.SIGTERM)
    assert gateway.wait(30) == 0, gateway.stdout.read().decode()


def test_the_dockerfile_is_clean():
    hadolint = Path(sys.executable).parent / "hadolint"
    linted = subprocess.run(
        [hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert linted.returncode == 0, linted.stdout
