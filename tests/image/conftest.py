"""Runs the image as a cluster would: read-only, without capabilities, not as root.

Each run has a loopback of its own.
"""

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from network import NameServer, TlsTerminator

ROOT = Path(__file__).parents[2]
IMAGE = "localhost/eni-gateway:first"
PODMAN = ["podman", "--runtime", "/usr/sbin/runc"]
CONFINED = [
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
]
# Of nested containers: more than the outer one allows cannot be asked for.
LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"]
NETWORK = ["--network", "host", "--no-hosts", "--dns", "127.0.0.1"]


def podman(*arguments):
    return [*PODMAN, *(str(argument) for argument in arguments)]


def container(*arguments, options=()):
    """The command that runs the image."""
    return podman("run", "--rm", *CONFINED, *LIMITS, *NETWORK, *options, IMAGE, *arguments)


def ask(*arguments, options=(), timeout=60):
    """Runs the image until it ends."""
    command = container(*arguments, options=options)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)


def env(**variables):
    return [part for name, value in variables.items() for part in ("--env", f"{name}={value}")]


def wait_for(port, process):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read().decode()
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}")


@pytest.fixture(scope="session")
def start():
    """Starts processes, waits until their port is open, and ends them with the tests."""
    running = []

    def start(command, port):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        running.append(process)
        wait_for(port, process)
        return process

    yield start
    for process in running:
        process.terminate()
    for process in running:
        process.wait(30)


@pytest.fixture(scope="session", autouse=True)
def loopback():
    assert (
        len(socket.if_nameindex()) == 1
    ), "run it by tests/image/run: it needs a network of its own"
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """A CA, and a certificate of it for ens.test: (bundle, certificate, key)."""
    directory = tmp_path_factory.mktemp("ca")
    paths = [directory / name for name in ("ca.pem", "ca.key", "tls.pem", "tls.key")]
    ca, ca_key, certificate, key = paths
    new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split()
    subprocess.run(
        [*new, "-subj", "/CN=test CA", "-keyout", ca_key, "-out", ca],
        check=True,
        capture_output=True,
    )
    signed = [
        "-CA",
        ca,
        "-CAkey",
        ca_key,
        "-subj",
        "/CN=ens.test",
        "-addext",
        "subjectAltName=DNS:ens.test",
    ]
    leaf = ["-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(
        [*new, *signed, *leaf, "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    for path in paths:
        path.chmod(0o644)
    directory.chmod(0o755)
    for parent in directory.parents[:3]:
        os.chmod(parent, parent.stat().st_mode | 0o111)
    return ca, certificate, key


@pytest.fixture(scope="session")
def cloud(start, authority):
    """The simulator from the image, at https://ens.test:8443, and a Redis at redis.test."""
    _, certificate, key = authority
    start(container("simulator", "--listen", "127.0.0.1:18080"), 18080)
    start(
        [
            "redis-server",
            "--port",
            "6379",
            "--save",
            "",
            "--maxmemory-policy",
            "noeviction",
            "--dir",
            "/tmp",
        ],
        6379,
    )
    names = NameServer({"ens.test": "127.0.0.1", "redis.test": "127.0.0.1"})
    TlsTerminator(8443, 18080, certificate, key)
    return names
