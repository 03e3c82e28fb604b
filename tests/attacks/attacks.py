"""Attacks on one replica, and a healthy client beside them. See `run`."""

import collections
import concurrent.futures
import contextlib
import copy
import multiprocessing
import os
import pathlib
import random
import selectors
import socket
import statistics
import sys
import tempfile
import threading
import time
import uuid

import grpc
from http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    SERVICE,
    SETTINGS,
    WINDOW_UPDATE,
    call,
    follow,
    frame,
    header,
    headers,
    hello,
    unfinished,
)

sys.path[:0] = [str(pathlib.Path(__file__).parents[1] / folder) for folder in ("observe", "python")]
from issuer import Issuer  # noqa: E402
from live import Stage, ask, generate  # noqa: E402
from processes import until  # noqa: E402

# Seconds of an attack, and after it until memory is measured.
LASTS, AFTER = 10, 30
COLUMNS = [
    "attack",
    "success",
    "new connections",
    "attaches",
    "p99 (ms) quiet, control, attack",
    "attack ÷ quiet, ÷ control",
    "memory before, peak, after (MB)",
    "descriptors",
    "Redis (kB)",
    "log (kB)",
]
# Held by the attack that is measured.
MEASURES = threading.Lock()
# Limits of what is measured.
MOST_MEMORY, LEAST_SUCCESS, MOST_STORED = 200e6, 0.99, 5e6
INSTANCE, ENI = "i-stopped-1", "eni-0001"
# Two callers with the same rights, whose tokens an issuer signs.
POLICY = """
version = 1

[[issuers]]
alias = "issuer"
issuer = "https://issuer.example"
audiences = ["eni-gateway"]
jwks_file = "{keys}"

[[allow]]
id = "all"
callers = ["issuer:*"]
actions = ["*"]
instances = ["*"]
"""


def with_policy(issuer, directory):
    """The settings of a policy for the callers of this issuer."""
    policy = pathlib.Path(directory) / "policy"
    policy.write_text(POLICY.format(keys=issuer.keys))
    return {"IDENTITY__POLICY_FILE": policy}


class Target:
    """The addresses to attack, and the time until which."""

    def __init__(self, stage, lasts, authorization=None):
        # What identifies the attacker, for the attacks of a caller.
        self.authorization = authorization
        self.grpc, self.admin = ("127.0.0.1", stage.ports["a"]), ("127.0.0.1", stage.ports["a-admin"])
        self.ends = time.monotonic() + lasts

    @property
    def lasts(self):
        return time.monotonic() < self.ends

    def attach(self, n, *fields):
        """The n-th attach of a connection."""
        return call(n, "AttachNetworkInterface", *fields, grpc_timeout="2S", authorization=self.authorization)

    def each_in_turn(self):
        """Every attack for its time, one after the other."""
        for one in ANONYMOUS.values():
            if self.lasts:
                part = copy.copy(self)
                part.ends = min(self.ends, time.monotonic() + LASTS)
                one(part)

    def connect(self, first=b"", admin=False, source=None):
        """A connection with these first bytes, from this address; None where it is refused."""
        with contextlib.suppress(OSError):
            source = (source, 0) if source else None
            connection = socket.create_connection(self.admin if admin else self.grpc, 1, source)
            connection.settimeout(1)
            connection.sendall(first)
            return connection
        return None

    def hold(self, count, first=b"", admin=False, sources=(None,), drip=b""):
        """
        So many connections with these first bytes, to the end; each that is closed is opened again. `drip` is sent on each,
        one byte a second.
        """
        held, opened, sent, due = [], 0, 0, time.monotonic()
        while self.lasts:
            held = [it for it in held if not is_closed(it)]
            if len(held) < count:
                held.append(self.connect(first, admin, sources[opened % len(sources)]))
                opened += 1
            else:
                time.sleep(0.1)
            if time.monotonic() > due and sent < len(drip):
                for connection in filter(None, held):
                    with contextlib.suppress(OSError):
                        connection.sendall(drip[sent : sent + 1])
                sent, due = sent + 1, due + 1

    def flood(self, first, repeated, connections=4):
        """Writes the same bytes as fast as they are taken."""

        def one():
            while self.lasts:
                connection = self.connect(first)
                with contextlib.suppress(OSError, AttributeError):
                    while self.lasts:
                        connection.sendall(repeated)

        together(one, connections)

    def calls(self, one_call, connections=8, each=100, opening=None, read=True, sources=(None,)):
        """Calls on some connections, `each` at once, round after round."""
        left = list(sources) * connections

        def one():
            source = left.pop()
            while self.lasts:
                connection, n = self.connect(opening or hello(), source=source), 0
                with contextlib.suppress(OSError, AttributeError):
                    while self.lasts and n < 100_000:
                        connection.sendall(b"".join(one_call(n + m) for m in range(each)))
                        n += each
                        if read:
                            drain(connection)
                            connection.sendall(frame(PING, 1, 0, b"0" * 8))
                        else:
                            time.sleep(1)

        together(one, connections)

    def bursts(self, one_call, connections=30, each=200):
        """Bursts of calls on new connections, with pauses."""

        def one():
            while self.lasts:
                connection = self.connect(hello())
                with contextlib.suppress(OSError, AttributeError):
                    connection.sendall(b"".join(one_call(n) for n in range(each)))
                    drain(connection)
                    connection.close()
                time.sleep(0.5)

        together(one, connections)


def is_closed(connection):
    """Whether the peer has closed it."""
    if connection is None:
        return True
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        if not selector.select(0):
            return False
    with contextlib.suppress(OSError):
        return connection.recv(4096) == b""
    return True


def drain(connection):
    """Reads what comes within a moment."""
    with contextlib.suppress(TimeoutError):
        connection.settimeout(0.2)
        while connection.recv(1 << 16):
            pass
    connection.settimeout(1)


def together(one, count):
    """Runs it in threads."""
    threads = [threading.Thread(target=one, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LASTS + 10)


def burn(target):
    """Uses a processor, and makes no call: what the healthy client's p99 is on this machine without a processor to itself."""
    while target.lasts:
        pass


def any_id(prefix):
    return f"{prefix}-{random.getrandbits(64):x}"


def reset(n, one_call):
    """The n-th call of a connection, cancelled at once."""
    return one_call + frame(RST_STREAM, 0, 2 * n + 1, b"\0\0\0\x08")


def in_pieces(n, rpc, size):
    """The n-th call of a connection, whose message never ends and comes in DATA frames of this size."""
    stream = 2 * n + 1
    return frame(HEADERS, END_HEADERS, stream, headers(SERVICE + rpc)) + frame(DATA, 0, stream, b"\0" * size) * 4_000


# Addresses of other peers.
OTHERS = [f"127.0.0.{n}" for n in range(2, 51)]

ANONYMOUS = {
    "silent": lambda it: it.hold(2500),
    "half_preface": lambda it: it.hold(1000, hello()[:10]),
    "idle": lambda it: it.hold(2500, hello()),
    "admin_silent": lambda it: it.hold(500, admin=True),
    "endless_streams": lambda it: it.hold(
        40, hello() + b"".join(frame(HEADERS, END_HEADERS, 2 * n + 1, headers(SERVICE + "WatchAttachment")) for n in range(1000))
    ),
    "nearly_whole": lambda it: it.calls(lambda n: unfinished(n, SERVICE + "WatchAttachment", 16_000), each=40),
    "reflection": lambda it: it.calls(
        lambda n: unfinished(n, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", 4_000), each=100
    ),
    "never_reads": lambda it: it.calls(lambda n: call(n, "ListAttachments", INSTANCE), connections=20, read=False),
    "no_window": lambda it: it.calls(
        lambda n: call(n, "ListAttachments", INSTANCE), connections=20, opening=hello((4, 0)), read=False
    ),
    "rapid_reset": lambda it: it.calls(
        lambda n: frame(HEADERS, END_HEADERS, 2 * n + 1, headers(SERVICE + "GetAttachment"))
        + frame(RST_STREAM, 0, 2 * n + 1, b"\0\0\0\x08"),
        connections=4,
        read=False,
    ),
    "continuation": lambda it: it.flood(
        hello() + frame(HEADERS, END_STREAM, 1, headers("/x")), frame(CONTINUATION, 0, 1, header("a", "b")) * 100
    ),
    "settings": lambda it: it.flood(hello(), frame(SETTINGS, 0, 0) * 1000),
    "ping": lambda it: it.flood(hello(), frame(PING, 0, 0, b"0" * 8) * 1000),
    "unknown_gets": lambda it: it.calls(lambda n: call(n, "GetAttachment", any_id("i"), any_id("eni"))),
    "unknown_attaches": lambda it: it.calls(
        lambda n: call(n, "AttachNetworkInterface", any_id("i"), any_id("eni"), grpc_timeout="50m")
    ),
    "patient_attaches": lambda it: it.calls(
        lambda n: call(n, "AttachNetworkInterface", any_id("i"), any_id("eni"), grpc_timeout="60S"), read=False
    ),
    "unknown_lists": lambda it: it.calls(lambda n: call(n, "ListAttachments", any_id("i"))),
    "unknown_watches": lambda it: it.calls(lambda n: call(n, "WatchAttachment", any_id("i"), any_id("eni"))),
    "repeated_attaches": lambda it: it.calls(
        lambda n: call(n, "AttachNetworkInterface", INSTANCE, ENI, str(uuid.uuid4()), grpc_timeout="2S")
    ),
    "bursts": lambda it: it.bursts(lambda n: call(n, "ListAttachments", INSTANCE)),
    "invalid_calls": lambda it: it.calls(lambda n: call(n, "AttachNetworkInterface", "", "")),
    "preface_drip": lambda it: it.hold(1000, drip=hello()),
    "header_drip": lambda it: it.hold(1000, hello() + b"\0\x10\0\x01\x04\0\0\0\x01", drip=b"\0" * 60),
    "admin_drip": lambda it: it.hold(300, admin=True, drip=b"GET /metrics HTTP/1.1\r\nx: " + b"y" * 60),
    "admin_slow_readers": lambda it: it.hold(500, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 200, admin=True),
    "one_watch_each": lambda it: it.hold(2500, hello() + follow(0, INSTANCE)),
    "one_watch_each_of_many": lambda it: it.hold(2500, hello() + follow(0, INSTANCE), sources=OTHERS),
    "watches_reset": lambda it: it.calls(lambda n: reset(n, follow(n, INSTANCE))),
    "attaches_reset": lambda it: it.calls(lambda n: reset(n, call(n, "AttachNetworkInterface", any_id("i"), any_id("eni")))),
    "late_attaches": lambda it: it.calls(
        lambda n: call(n, "AttachNetworkInterface", INSTANCE, any_id("eni"), grpc_timeout="1m")
    ),
    "attaches_of_many": lambda it: it.calls(
        lambda n: call(n, "AttachNetworkInterface", any_id("i"), any_id("eni"), grpc_timeout="10S"),
        connections=1,
        each=40,
        sources=OTHERS,
        read=False,
    ),
    "request_ids_of_many": lambda it: it.calls(
        lambda n: call(n, "AttachNetworkInterface", INSTANCE, ENI, str(uuid.uuid4()), grpc_timeout="2S"),
        connections=1,
        each=40,
        sources=OTHERS,
    ),
    "reads_of_many": lambda it: it.calls(
        lambda n: call(n, "ListAttachments", any_id("i")), connections=1, each=40, sources=OTHERS
    ),
    "capacities": lambda it: it.calls(lambda n: call(n, "BatchGetInstanceCapacities", [any_id("i") for _ in range(100)]), each=20),
    "health_watches": lambda it: it.calls(lambda n: call(n, "/grpc.health.v1.Health/Watch"), each=500),
    "empty_data": lambda it: it.calls(lambda n: in_pieces(n, "WatchAttachment", 0), each=20),
    "tiny_data": lambda it: it.calls(lambda n: in_pieces(n, "WatchAttachment", 1), each=20, read=False),
    "small_windows": lambda it: it.flood(
        hello((4, 1)) + b"".join(call(n, "ListAttachments", INSTANCE) for n in range(500)),
        b"".join(frame(WINDOW_UPDATE, 0, 2 * n + 1, b"\0\0\0\x01") for n in range(500)),
    ),
    "windows_change": lambda it: it.flood(
        hello((4, 1)) + b"".join(call(n, "ListAttachments", INSTANCE) for n in range(500)),
        frame(SETTINGS, 0, 0, b"\0\x04\0\0\0\x01") + frame(SETTINGS, 0, 0, b"\0\x04\0\0\0\0"),
    ),
    "large_metadata": lambda it: it.calls(
        lambda n: call(n, "GetAttachment", INSTANCE, ENI, traceparent=f"00-{'1' * 32}-{'2' * 16}-01", tracestate="x" * 8000)
    ),
}


# Floods of one caller beside another one from the same address: each has its own share.
CALLERS = {
    "caller_gets": lambda it: it.calls(lambda n: call(n, "GetAttachment", INSTANCE, ENI, authorization=it.authorization)),
    "caller_attaches": lambda it: it.calls(lambda n: it.attach(n, "i-stopped-4", f"eni-{20 + n % 20:04}")),
    "caller_watches": lambda it: it.calls(lambda n: follow(n, INSTANCE, authorization=it.authorization), each=10, read=False),
    "caller_request_ids": lambda it: it.calls(lambda n: it.attach(n, INSTANCE, ENI, str(uuid.uuid4()))),
}
# No attack: a busy program beside the healthy client.
CONTROLS = {"busy_program": burn}
# All attacks of anonymous clients on one replica.
SOAK = "soak"
ATTACKS = CONTROLS | ANONYMOUS | CALLERS | {SOAK: Target.each_in_turn}


def duration(name):
    """Seconds of an attack."""
    return LASTS * len(ANONYMOUS) if name == SOAK else LASTS


class Healthy:
    """A client that calls, and connects again, all the time."""

    def __init__(self, stage, messages, services, authorization=None):
        self.metadata = [("authorization", authorization)] if authorization else []
        self.messages, self.services, self.address = messages, services, f"127.0.0.1:{stage.ports['a']}"
        self.stub = services.AttachmentServiceStub(grpc.insecure_channel(self.address))
        # How often each message of a refusal came.
        self.refusals = collections.Counter()

    def get(self, stub):
        """Seconds of one call; None if it failed."""
        began = time.monotonic()
        request = self.messages.GetAttachmentRequest(instance_id=INSTANCE, network_interface_id=ENI)
        try:
            stub.GetAttachment(request, timeout=5, metadata=self.metadata)
        except grpc.RpcError as error:
            self.refusals[f"{error.code().name} {error.details()}"] += 1
            return None
        return time.monotonic() - began

    def attaches(self, lasts, pause):
        """Attaches of other pairs, one after the other: (number that ENS accepted, number of all)."""
        good, n = 0, 0
        while lasts():
            n += 1
            request = self.messages.AttachNetworkInterfaceRequest(
                instance_id=f"i-stopped-{2 + n % 2}", network_interface_id=f"eni-{n + 1:04}"
            )
            with contextlib.suppress(grpc.RpcError):
                self.stub.AttachNetworkInterface(request, timeout=10, metadata=self.metadata)
                good += 1
            time.sleep(pause)
        return good, n

    def measure(self, lasts):
        """(share of successes, p99 in ms, share of successes on new connections) while it lasts."""
        old, new = [], []
        while lasts():
            old.append(self.get(self.stub))
            if len(old) % 20 == 1:
                options = [("grpc.use_local_subchannel_pool", 1)]
                with grpc.insecure_channel(self.address, options=options) as channel:
                    new.append(self.get(self.services.AttachmentServiceStub(channel)))
            time.sleep(0.02)
        good = sorted(took for took in old if took is not None)
        p99 = statistics.quantiles(good, n=100)[98] * 1000 if len(good) > 1 else float("nan")
        return len(good) / len(old), p99, sum(took is not None for took in new) / len(new)


def metrics(stage):
    """Resident bytes and open descriptors of the replica, and bytes of Redis' data."""
    page = dict(line.rsplit(" ", 1) for line in ask(stage.url("a-admin", "metrics")).splitlines() if line[:1] != "#")
    memory = stage.redis_cli("info", "memory").splitlines()
    redis = next(int(line.split(":")[1]) for line in memory if line.startswith("used_memory_dataset:"))
    return float(page["process_resident_memory_bytes"]), float(page["process_open_fds"]), redis


def flood(name, target):
    """What attacks, in a process of its own: it takes no time from the healthy client's clock."""

    def apart():
        os.nice(10)
        ATTACKS[name](target)

    return multiprocessing.get_context("fork").Process(target=apart, daemon=True)


def peak_of(process, lasts, found):
    """Keeps the highest resident bytes in `found`."""
    while lasts():
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        found[0] = max(found[0], kilobytes * 1024)
        time.sleep(0.05)


def replica(stage, settings):
    """A replica with a Redis and a simulator of its own."""
    stage.redis()
    stage.gateway("simulator", "--listen", f"127.0.0.1:{stage.ports['ens']}", "--attach-time", "100ms")
    process = stage.replica("a", **settings)
    until("a replica", lambda: ask(stage.url("a-admin", "readyz")))
    return process


def beside(name, healthy, target, *more):
    """What the healthy client measures beside an attack on this target."""
    attacker = flood(name, target)
    others = [threading.Thread(target=one, args=arguments, daemon=True) for one, *arguments in more]
    for one in (attacker, *others):
        one.start()
    measured = healthy.measure(lambda: target.lasts)
    for one in (attacker, *others):
        one.join()
    return measured


def attack(name, out):
    """
    One attack on a new replica: its row of the table, and what was not kept. Before it comes the control: the same attack on
    another replica, whose effect on the healthy client is that of the machine.
    """
    with contextlib.ExitStack() as stack:
        directories = [stack.enter_context(tempfile.TemporaryDirectory()) for _ in range(2)]
        stage, other = (stack.enter_context(Stage(directory)) for directory in directories)
        with MEASURES:
            issuer = Issuer(directories[0]) if name in CALLERS else None
            attacker, calm = [f"Bearer {issuer.token(subject)}" for subject in ("attacker", "calm")] if issuer else (None, None)
            settings = with_policy(issuer, directories[0]) if issuer else {}
            process, _ = replica(stage, settings), replica(other, settings)
            healthy = Healthy(stage, *out, calm)
            request = healthy.messages.AttachNetworkInterfaceRequest(instance_id=INSTANCE, network_interface_id=ENI)
            healthy.stub.AttachNetworkInterface(request, timeout=30, metadata=healthy.metadata)
            quiet_until = time.monotonic() + LASTS
            _, quiet, _ = healthy.measure(lambda: time.monotonic() < quiet_until)
            _, control, _ = beside(name, healthy, Target(other, LASTS, attacker))
            before, descriptors, redis = metrics(stage)
            target, peak, attached = Target(stage, duration(name), attacker), [before], []

            def attach():
                # The two instances have twenty places.
                attached.extend(healthy.attaches(lambda: target.lasts, duration(name) / 20))

            success, during, connects = beside(name, healthy, target, [peak_of, process, lambda: target.lasts, peak], [attach])
        time.sleep(AFTER)
        after, descriptors_after, redis_after = metrics(stage)
        log = (pathlib.Path(directories[0]) / "log").stat().st_size
    row = (
        f"| {name} | {success:.1%} | {connects:.0%} | {attached[0]} of {attached[1]} | "
        f"{quiet:.0f}, {control:.0f}, {during:.0f} | {during / quiet:.1f}, {during / control:.1f} | "
        f"{before / 1e6:.0f}, {peak[0] / 1e6:.0f}, {after / 1e6:.0f} | {descriptors:.0f} → {descriptors_after:.0f} | "
        f"{(redis_after - redis) / 1e3:.0f} | {log / 1e3:.0f} |"
    )
    faults = [
        (success < LEAST_SUCCESS, f"the healthy client had {success:.1%}: {dict(healthy.refusals)}"),
        (connects < 1, f"{connects:.0%} of new connections were served"),
        (peak[0] > MOST_MEMORY, f"memory rose to {peak[0] / 1e6:.0f} MB"),
        (attached[0] < attached[1], f"{attached[0]} of {attached[1]} attaches were served"),
        (after > 1.5 * before, f"memory stayed at {after / 1e6:.0f} MB"),
        (redis_after - redis > MOST_STORED, f"redis kept {(redis_after - redis) / 1e6:.0f} MB"),
        (name in CALLERS and success < 1, f"the other caller had {success:.1%}: {dict(healthy.refusals)}"),
        (descriptors_after > descriptors + 10, f"{descriptors_after:.0f} descriptors stay open"),
    ]
    return row, [f"{name}: {why}" for fault, why in faults if fault]


def main():
    """Attacks and prints."""
    faults = []
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + " --- |" * len(COLUMNS))
    # The next attack begins while the memory after the last one is awaited.
    with tempfile.TemporaryDirectory() as directory, concurrent.futures.ThreadPoolExecutor(3) as pool:
        out = generate(directory)
        for row, found in pool.map(lambda name: attack(name, out), sys.argv[1:] or ATTACKS):
            print(row, flush=True)
            faults += found
    sys.exit("\n".join(faults) or None)


if __name__ == "__main__":
    main()
