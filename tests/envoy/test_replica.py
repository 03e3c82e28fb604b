"""Watches through a real Envoy, behind which the replica dies: the published loop and the command resume."""

import contextlib
import importlib
import json
import pathlib
import re
import subprocess
import sys
import threading

import pytest
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "python"))
from gateway_client import generate  # noqa: E402
from processes import PROGRAM, ROOT, Processes, free_port, listens, until  # noqa: E402

ENVOY = next((ROOT / ".venv/lib").glob("python3*/site-packages/envoy/_bin/envoy"))
INSTANCE = "i-stopped-1"


def cluster(port):
    """A replica, over HTTP/2."""
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    options = {"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
               "explicit_http_config": {"http2_protocol_options": {}}}
    return {"name": "gateway", "connect_timeout": "5s",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
            "load_assignment": {"cluster_name": "gateway",
                                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}}


def proxy(port, replica):
    """An Envoy that passes gRPC on, as operators put it before a service."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": "gateway", "timeout": "0s"}}
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "grpc", "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    listener = {"name": "grpc", "address": address, "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster(replica)]}}


class Stage(Processes):
    """Redis, simulator, Envoy, and one replica at a time."""

    def __init__(self, directory):
        super().__init__(directory)
        self.redis, self.ens, self.grpc, self.proxy = (free_port() for _ in range(4))

    def run(self):
        """Starts all of them."""
        self.start("redis-server", "--port", self.redis, "--save", "", "--dir", self.directory,
                   "--maxmemory-policy", "noeviction")
        self.gateway("simulator", "--listen", f"127.0.0.1:{self.ens}")
        until("redis", lambda: listens(self.redis))
        until("the simulator", lambda: listens(self.ens))
        config = self.directory / "envoy.yaml"
        config.write_text(yaml.safe_dump(proxy(self.proxy, self.grpc)))
        self.start(ENVOY, "-c", config, "--disable-hot-restart", "--log-level", "warning")
        until("envoy", lambda: listens(self.proxy))

    def replica(self):
        """A replica behind the proxy, once it serves."""
        process = self.gateway("serve", LEDGER__URL=f"redis://127.0.0.1:{self.redis}/0", LEDGER__FRESH="true",
                               ENS__ENDPOINT=f"http://127.0.0.1:{self.ens}", GRPC__LISTEN=f"127.0.0.1:{self.grpc}",
                               ADMIN__LISTEN=f"127.0.0.1:{free_port()}", WATCH__HEARTBEAT="1s")
        until("the gateway", lambda: listens(self.grpc), process=process)
        return process

    @property
    def endpoint(self):
        """The address that callers use."""
        return f"127.0.0.1:{self.proxy}"


@pytest.fixture
def stage(tmp_path):
    with Stage(tmp_path) as running:
        running.run()
        yield running


@pytest.fixture
def published(tmp_path):
    """The client of docs/clients.md, without its example of use."""
    out = tmp_path / "generated"
    out.mkdir()
    generate(str(out))
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs/clients.md").read_text(), re.S)[0]
    (out / "published.py").write_text(code)
    return importlib.import_module("published")


def test_watches_go_through_the_death_of_a_replica(stage, published):
    replica = stage.replica()
    environment = {"PATH": "/usr/bin:/bin"}
    command = [PROGRAM, "watch", INSTANCE, "--follow", "-o", "json", "--endpoint", f"http://{stage.endpoint}"]
    by_command, by_loop = set(), set()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watch, \
            published.connect(stage.endpoint, ROOT / "proto/eni/gateway/v1/service_config.json") as channel:
        stub = published.rpc.AttachmentServiceStub(channel)

        def read_command():
            for line in watch.stdout:
                found = json.loads(line)
                by_command.add((found["networkInterfaceId"], found["state"]))

        def read_loop():
            # Until the channel is closed.
            with contextlib.suppress(ValueError):
                for found in published.watch(stub, INSTANCE, follow=True):
                    by_loop.add((found.network_interface_id, published.pb.Attachment.State.Name(found.state)))

        for read in (read_command, read_loop):
            threading.Thread(target=read, daemon=True).start()
        for eni in ("eni-0001", "eni-0002"):
            assert published.attach(stub, INSTANCE, eni, tries=100).uid
            shown = (eni, "STATE_ATTACHED")
            until(f"the command shows {eni}", lambda shown=shown: shown in by_command, 100, watch)
            until(f"the loop shows {eni}", lambda shown=shown: shown in by_loop, 100)
            replica.kill()
            replica.wait()
            replica = stage.replica()
        watch.kill()
