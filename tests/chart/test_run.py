"""What the simulator's values render, run without a cluster: every container's program with its arguments, environment and
settings, names of Services being addresses of loopback. What a cluster adds (scheduling, mounts, policies) is not tried here.
"""

import pathlib
import subprocess
import sys
import urllib.request

import pytest
from chart import PROGRAM, manifests, pick, render, run

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "python"))
from processes import free_port, until  # noqa: E402


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=1).status == 200
    except OSError:
        return False


class Release:
    """The manifests, and how their names and ports are read on this machine."""

    def __init__(self, directory, *arguments):
        self.directory = directory
        self.ports = {port: free_port() for port in (50051, 9090, 18080, 6379)}
        self.documents = manifests(render("simulator", *arguments))
        self.running = []

    def here(self, text):
        for host in ["gw-eni-gateway.edge.svc", "gw-eni-gateway-simulator", "gw-eni-gateway-redis", "0.0.0.0"]:
            for port, ours in self.ports.items():
                text = text.replace(f"{host}:{port}", f"127.0.0.1:{ours}")
        return text

    def command(self, spec, container):
        """Its arguments and environment, the files of its ConfigMaps written."""
        arguments = [self.here(each) for each in container["args"]]
        environment = {each["name"]: self.here(each["value"]) for each in container.get("env", [])}
        for volume in spec.get("volumes", []):
            if "configMap" in volume:
                for name, text in pick(self.documents, "ConfigMap", volume["configMap"]["name"])["data"].items():
                    text = self.here(text).replace("/etc/eni-gateway/logging", str(self.directory))
                    (self.directory / name).write_text(text)
                    file = str(self.directory / name)
                    arguments = [file if each.endswith(f"/{name}") else each for each in arguments]
        return arguments, environment

    def start(self, name, program, port, ready=None):
        spec = pick(self.documents, "Deployment", name)["spec"]["template"]["spec"]
        arguments, environment = self.command(spec, spec["containers"][0])
        if port == 6379:
            arguments += ["--port", str(self.ports[port]), "--bind", "127.0.0.1"]
        process = subprocess.Popen(
            [program, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.running.append(process)
        if ready:
            until(name, lambda: answers(f"http://127.0.0.1:{self.ports[port]}{ready}"), process=process)
        return process, spec["containers"][0]

    def test(self, suffix):
        """Runs a pod of `helm test`: what each container ended with."""
        spec = pick(self.documents, "Pod", suffix)["spec"]
        for container in spec["containers"]:
            arguments, environment = self.command(spec, container)
            yield container["name"], run(PROGRAM, *arguments, env=environment)

    def stop(self):
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.communicate(timeout=40)


@pytest.fixture
def release(tmp_path):
    release = Release(tmp_path, "--set", "config.grpc.drain_delay=0s")
    yield release
    release.stop()


def test_the_simulator_s_release_works_and_its_tests_pass(release):
    release.start("-redis", "redis-server", 6379)
    _, simulator = release.start("-simulator", PROGRAM, 18080, "/_simulator/")
    assert simulator["readinessProbe"]["httpGet"]["path"] == "/_simulator/"
    gateway, container = release.start("gw-eni-gateway", PROGRAM, 9090, "/readyz")
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"]:
        path = container[probe]["httpGet"]["path"]
        assert answers(f"http://127.0.0.1:{release.ports[9090]}{path}"), probe
    outcomes = [*release.test("-test-check"), *release.test("-test-call")]
    assert [name for name, _ in outcomes] == ["check", "list", "validate"]
    for name, outcome in outcomes:
        assert outcome.returncode == 0, f"{name}: {outcome.stdout}{outcome.stderr}"
    gateway.terminate()
    assert gateway.wait(30) == 0


def test_the_hook_calls_a_new_ledger_new_and_leaves_a_used_one(tmp_path):
    release = Release(tmp_path)
    # The simulator's own Redis is not there before an install: this is another one, given as users
    # give theirs.
    url = f"redis://127.0.0.1:{release.ports[6379]}/0"
    release.documents += manifests(render("minimum", "--set", f"config.ledger.url={url}"))
    job = pick(release.documents, "Job")["spec"]["template"]["spec"]
    arguments, environment = release.command(job, job["containers"][0])
    # What the image sets.
    environment = {"ENI_GATEWAY_ADMIN__LISTEN": "0.0.0.0:9090"} | environment
    try:
        assert run(PROGRAM, *arguments, env=environment).returncode == 69, "no answer yet: the job tries again"
        redis, _ = release.start("-redis", "redis-server", 6379)
        until("redis", lambda: run(PROGRAM, *arguments, env=environment).returncode == 0, process=redis)
        stored = run("redis-cli", "-p", release.ports[6379], "set", "eni-gateway:{p0}:v2:record:i-1", "1")
        assert stored.stdout.strip() == "OK"
        again = run(PROGRAM, *arguments, env=environment)
        assert again.returncode == 0 and "nothing to do" in again.stdout, again.stdout + again.stderr
    finally:
        release.stop()
