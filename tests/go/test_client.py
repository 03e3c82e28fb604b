"""The Go client of docs/clients.md against a real gateway, whose streams end long before an attach does, and whose replica
dies."""

import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "python"))
from processes import ROOT, Processes, free_port, listens, until  # noqa: E402

CLIENT = ROOT / "target/go-client/client"


class Stage(Processes):
    """Redis, simulator, and one replica at a time."""

    def __init__(self, directory):
        super().__init__(directory)
        self.redis, self.ens, self.grpc = (free_port() for _ in range(3))

    def run(self):
        """Starts Redis and the simulator."""
        self.start("redis-server", "--port", self.redis, "--save", "", "--dir", self.directory,
                   "--maxmemory-policy", "noeviction")
        self.gateway("simulator", "--listen", f"127.0.0.1:{self.ens}", "--attach-time", "6s")
        until("redis", lambda: listens(self.redis))
        until("the simulator", lambda: listens(self.ens))

    def replica(self):
        """A replica, once it serves."""
        process = self.gateway("serve", LEDGER__URL=f"redis://127.0.0.1:{self.redis}/0", LEDGER__FRESH="true",
                               ENS__ENDPOINT=f"http://127.0.0.1:{self.ens}", GRPC__LISTEN=f"127.0.0.1:{self.grpc}",
                               ADMIN__LISTEN=f"127.0.0.1:{free_port()}", WATCH__HEARTBEAT="1s", WATCH__MAX_AGE="1500ms")
        until("the gateway", lambda: listens(self.grpc), process=process)
        return process

    def client(self, instance, *enis, port=None):
        """The client's process, at a proxy's port or the replica's."""
        command = [CLIENT, f"127.0.0.1:{port or self.grpc}", instance, *enis]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def stage(tmp_path):
    with Stage(tmp_path) as running:
        running.run()
        yield running


@pytest.mark.parametrize("front", [None, "nginx", "haproxy"])
def test_an_attach_is_watched_over_several_streams_and_a_death_of_the_replica(stage, front):
    replica = stage.replica()
    port = stage.front(front, stage.grpc) if front else None
    client = stage.client("i-stopped-1", "eni-0001", port=port)
    assert client.stdout.readline().startswith("accepted ")
    assert client.stdout.readline().startswith("STATE_")
    replica.kill()
    replica.wait()
    stage.replica()
    rest, _ = client.communicate(timeout=100)
    assert client.returncode == 0, rest
    assert rest.splitlines()[-1] == "STATE_ATTACHED", rest


def test_a_batch_is_watched_with_all_instances_over_several_streams_and_a_death_of_the_replica(stage):
    replica = stage.replica()
    client = stage.client("i-stopped-3", "eni-0021", "eni-unknown", "eni-0022")
    printed = [client.stdout.readline().split() for _ in range(3)]
    assert printed == [["eni-0021"], ["eni-unknown", "ENI_NOT_FOUND"], ["eni-0022"]]
    replica.kill()
    replica.wait()
    stage.replica()
    rest, _ = client.communicate(timeout=100)
    assert (client.returncode, rest) == (0, "attached 2\n")


def test_a_refusal_has_its_reason(stage):
    stage.replica()
    printed, _ = stage.client("i-running", "eni-0002").communicate(timeout=100)
    assert printed == "INSTANCE_NOT_STOPPED\n"
