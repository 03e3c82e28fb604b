"""Sends every query of the dashboard and of the alerts to a Prometheus that scrapes two replicas.

The replicas run over a Redis and a simulated ENS of their own, and meet what operators meet:
successes, refusals of every kind, a throttled account, a right that is missing, calls that go
unanswered, watchers, and a Redis that goes away. After that each query must be valid and must have
found something. `QUIET` names those that find nothing while all is well, with the reason.
"""

import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "python"))
from gateway_client import failure, generate  # noqa: E402
from processes import ROOT, Processes, free_port, listens, until  # noqa: E402

# What the queries of these alerts and panels measure is not there, and should not be.
QUIET = {
    "EniGatewayAbsent": "replicas run",
    "EniGatewayCertificateExpires": "the replicas serve plaintext",
    "EniGatewayReloadFails": "the replicas have no files to read again",
    "Failed TLS handshakes by cause": "the replicas serve plaintext",
}
# Watch streams that a replica takes.
STREAMS = 4
# Bounds that are short, and agree with one another.
QUICK = {
    "LEDGER__FAILOVER_WINDOW": "1s",
    "LEDGER__LEASE": "5s",
    "LEDGER__TIMEOUT": "500ms",
    "WATCH__MAX_STREAMS": str(STREAMS),
    "ENS__VISIBILITY_LAG": "1s",
    "ENS__REQUEST_VALIDITY": "2s",
    "ENS__ATTEMPT_TIMEOUT": "1500ms",
    "ENS__DESCRIBE_TIMEOUT": "1s",
    "ENS__ATTACH_PER_SECOND": "100",
    "ENS__DESCRIBE_PER_SECOND": "100",
}
SELECTED = {"$namespace": ".*", "$job": ".*", "$__rate_interval": "15s"}
WITHOUT_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(url, body=None, form=None):
    """The answer's text."""
    data = (
        json.dumps(body).encode()
        if body is not None
        else urllib.parse.urlencode(form).encode() if form else None
    )
    headers = {"content-type": "application/json"} if body is not None else {}
    with WITHOUT_PROXY.open(urllib.request.Request(url, data, headers), timeout=10) as answer:
        return answer.read().decode()


class Stage(Processes):
    """The processes, each at its port."""

    def __init__(self, directory):
        super().__init__(directory)
        self.ports = {
            name: free_port()
            for name in ("redis", "ens", "prometheus", "a", "a-admin", "b", "b-admin")
        }

    def url(self, name, path=""):
        return f"http://127.0.0.1:{self.ports[name]}/{path}"

    def redis(self):
        options = ("--bind", "127.0.0.1", "--save", "", "--maxmemory", "256mb")
        options += ("--maxmemory-policy", "noeviction")
        process = self.start("redis-server", "--port", str(self.ports["redis"]), *options)
        until("redis", lambda: listens(self.ports["redis"]))
        return process

    def redis_cli(self, *arguments):
        command = ["redis-cli", "-p", str(self.ports["redis"]), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def replica(self, name, **settings):
        usual = {
            "LEDGER__URL": f"redis://127.0.0.1:{self.ports['redis']}/0",
            "LEDGER__FRESH": "true",
            "ENS__ENDPOINT": self.url("ens").rstrip("/"),
            "GRPC__LISTEN": f"127.0.0.1:{self.ports[name]}",
            "ADMIN__LISTEN": f"127.0.0.1:{self.ports[name + '-admin']}",
        }
        return self.gateway("serve", **{**usual, **settings})

    def prometheus(self):
        targets = [f"127.0.0.1:{self.ports[name]}" for name in ("a-admin", "b-admin")]
        scrape = {
            "job_name": "eni-gateway",
            "static_configs": [{"targets": targets, "labels": {"namespace": "here"}}],
        }
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ROOT / "helm/files/alerts.yaml")],
            "scrape_configs": [scrape],
        }
        # JSON is YAML.
        file = self.directory / "prometheus.yml"
        file.write_text(json.dumps(config))
        self.start(
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={self.directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}",
        )
        until("prometheus", lambda: ask(self.url("prometheus", "-/ready")))

    def fault(self, kind, action="AttachNetworkInterface", times=1, **more):
        ask(
            self.url("ens", "_simulator/faults"),
            {"action": action, "times": times, "effect": {"kind": kind, **more}},
        )


class Traffic:
    """Calls, and what came of them."""

    def __init__(self, stage, messages, services):
        self.stage, self.messages = stage, messages
        channels = [grpc.insecure_channel(f"127.0.0.1:{stage.ports[name]}") for name in ("a", "b")]
        self.stubs = [services.AttachmentServiceStub(channel) for channel in channels]
        self.pool = concurrent.futures.ThreadPoolExecutor(max_workers=32)
        self.seen = {}

    def call(self, rpc, timeout=5.0, replica=0, **request):
        """One call to its end; its reason, or OK."""
        stub = getattr(self.stubs[replica], rpc)
        try:
            answer = stub(getattr(self.messages, rpc + "Request")(**request), timeout=timeout)
            if rpc == "WatchAttachment":
                for _ in answer:
                    pass
            outcome = "OK"
        except grpc.RpcError as error:
            error = failure(error)
            outcome = error["reason"] or error["code"]
        self.seen[outcome] = self.seen.get(outcome, 0) + 1
        return outcome

    def attach(self, instance, eni, **more):
        return self.call(
            "AttachNetworkInterface", instance_id=instance, network_interface_id=eni, **more
        )

    def reads(self):
        for replica in (0, 1):
            self.call(
                "GetAttachment",
                replica=replica,
                instance_id="i-stopped-1",
                network_interface_id="eni-0001",
            )
            self.call("ListAttachments", replica=replica, instance_id="i-stopped-1")

    def polls(self):
        """Attaches until each replica polled one of them, or one polled them all."""
        for n in range(28, 41):
            self.demand("OK", self.attach(f"i-stopped-{2 + n % 2}", f"eni-{n:04}"))
            time.sleep(1.5)
            pages = [ask(self.stage.url(name, "metrics")) for name in ("a-admin", "b-admin")]
            if all("eni_gateway_poll_batch_size_count" in page for page in pages):
                return

    def demand(self, wanted, outcome):
        """Ends the run if it is not so."""
        if outcome != wanted:
            raise AssertionError(f"{wanted} was to be seen, and it was {outcome}")

    def run(self, redis):
        """All that operators meet."""
        # The first of a kind makes a series; only those after it are an increase.
        self.reads()
        self.polls()
        time.sleep(2)
        watches = [
            self.pool.submit(
                self.call, "WatchAttachment", 25, n % 2, instance_id="i-stopped-1", follow=True
            )
            for n in range(4)
        ]
        attaches = [
            self.pool.submit(self.attach, "i-stopped-1", f"eni-{n:04}", replica=n % 2)
            for n in range(1, 13)
        ]
        outcomes = sorted(attach.result() for attach in attaches)
        self.demand(["ENI_LIMIT_EXCEEDED"] * 2 + ["OK"] * 10, outcomes)
        crowd = [
            self.pool.submit(
                self.call, "WatchAttachment", 1, instance_id="i-stopped-1", follow=True
            )
            for _ in range(STREAMS)
        ]
        self.demand(True, "OVERLOADED" in [watch.result() for watch in crowd])
        self.demand("INVALID_FIELD", self.attach("", "eni-0001"))
        self.demand("INSTANCE_NOT_STOPPED", self.attach("i-running", "eni-0020"))
        self.reads()
        self.stage.fault("refuse", code="EniPerInstanceLimitExceeded")
        self.demand("ENI_LIMIT_EXCEEDED", self.attach("i-stopped-2", "eni-0021"))
        self.stage.fault("refuse", code="NoPermission")
        self.demand("ENS_PERMISSION_DENIED", self.attach("i-stopped-3", "eni-0022"))
        self.stage.fault("drop_before")
        self.demand("OK", self.attach("i-stopped-3", "eni-0023", timeout=15))
        self.stage.fault("accept_then_fail")
        self.demand("OK", self.attach("i-stopped-3", "eni-0024"))
        self.stage.fault("throttle", retry_after="3s")
        self.demand("ENS_THROTTLED", self.attach("i-stopped-4", "eni-0025", timeout=1.5))
        until("the breaker", lambda: self.attach("i-stopped-4", "eni-0025") == "OK")
        redis.kill()
        redis.wait()
        self.demand("COORDINATION_UNAVAILABLE", self.attach("i-stopped-4", "eni-0026", timeout=2))
        time.sleep(2)
        self.stage.redis()
        # A replica that knows Redis to be down refuses at once, until it has found it again.
        until(
            "the hold-down",
            lambda: self.attach("i-stopped-4", "eni-0027", timeout=2) == "COORDINATION_RECOVERING",
        )
        for watch in watches:
            watch.result()


def dashboard():
    """Every query of the dashboard: its panel's title, and the expression."""
    board = json.loads((ROOT / "helm/files/dashboard.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield f"{panel['title']} [{target['legendFormat']}]", target["expr"]
    for annotation in board["annotations"]["list"]:
        if "expr" in annotation:
            # Finds something only in the minute of a start: asked without its comparison.
            yield f"annotation {annotation['name']}", annotation["expr"].removesuffix(" > 0")


def problems(stage, began):
    """Why a query cannot be used, one line each."""
    ended = time.time()

    def found(expression):
        for name, value in SELECTED.items():
            expression = expression.replace(name, value)
        form = {"query": expression, "start": began, "end": ended, "step": "1"}
        try:
            result = json.loads(ask(stage.url("prometheus", "api/v1/query_range"), form=form))[
                "data"
            ]["result"]
            # A quantile of nothing is NaN.
            return any(value != "NaN" for series in result for _, value in series["values"]), ""
        except urllib.error.HTTPError as error:
            return False, error.read().decode()

    for name, expression in dashboard():
        some, why = found(expression)
        if not some and (why or name.partition(" [")[0] not in QUIET):
            yield f"{name}: {why or 'finds nothing'}: {expression}"
    for group in json.loads(ask(stage.url("prometheus", "api/v1/rules")))["data"]["groups"]:
        for rule in group["rules"]:
            if rule["health"] != "ok":
                yield f"{rule['name']}: {rule['lastError']}"
            page, _, section = rule["annotations"]["runbook_url"].partition("#")
            if (
                section != rule["name"].lower()
                or f"\n### {rule['name']}\n" not in (ROOT / page).read_text()
            ):
                yield f"{rule['name']}: {page} has no such section"
            # What is compared, each by itself: the comparisons hold only when something is wrong.
            for measured in re.split(r"\s(?:and on \([^)]*\)|and|or|>|==|!=)\s", rule["query"]):
                if re.fullmatch(r"[\d.]+", measured.strip()):
                    continue
                some, why = found(measured)
                if some == (rule["name"] in QUIET):
                    result = "finds something" if some else "finds nothing"
                    yield f"{rule['name']}: {why or result}: {measured}"


def main():
    """Sets the stage, plays, and asks."""
    with (
        tempfile.TemporaryDirectory() as directory,
        tempfile.TemporaryDirectory() as out,
        Stage(directory) as stage,
    ):
        redis = stage.redis()
        stage.gateway(
            "simulator",
            "--listen",
            f"127.0.0.1:{stage.ports['ens']}",
            "--attach-time",
            "300ms",
            "--visibility-lag",
            "100ms",
        )
        for name in ("a", "b"):
            stage.replica(name, **QUICK)
        for name in ("a-admin", "b-admin"):
            until("a replica", lambda name=name: ask(stage.url(name, "readyz")))
        stage.prometheus()
        # Both replicas are scraped before anything happens, so that the first increase is one.
        scraped = stage.url("prometheus", "api/v1/query?query=count(eni_gateway_build_info)==2")
        until("a scrape", lambda: json.loads(ask(scraped))["data"]["result"])
        began = time.time()
        traffic = Traffic(stage, *generate(out))
        try:
            traffic.run(redis)
        except AssertionError:
            print((stage.directory / "log").read_text()[-8000:], file=sys.stderr)
            raise
        time.sleep(2)
        bad = list(problems(stage, began))
        for line in bad:
            print(line, file=sys.stderr)
        count = len(list(dashboard()))
        print(
            f"{sum(traffic.seen.values())} calls: {traffic.seen}; {count} queries of the "
            f"dashboard, {len(bad)} problems"
        )
        sys.exit(bool(bad))


if __name__ == "__main__":
    main()
