"""Measures the sizes in docs/reports/.

    ENI_GATEWAY_BINARY=target/dist/eni-gateway .venv/bin/python tests/observe/measure.py

One replica over a Redis and a simulated ENS of its own, on this machine alone: the figures show
orders of magnitude.
"""

import concurrent.futures
import os
import pathlib
import tempfile
import threading
import time

import grpc
from live import Stage, ask, generate, until

INSTANCES, PER_INSTANCE, WATCHERS = 100, 10, 1000


def world(directory):
    """A file with instances and ENIs."""
    lines = [f'[[instances]]\nid = "i-{n}"\n' for n in range(INSTANCES)]
    lines += [f'[[enis]]\nid = "eni-{n}"\n' for n in range(INSTANCES * PER_INSTANCE)]
    file = pathlib.Path(directory) / "world.toml"
    file.write_text("\n".join(lines))
    return file


def metric(stage, name):
    """A sample without labels."""
    lines = ask(stage.url("a-admin", "metrics")).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name + " "))


def used(stage):
    """What Redis says of its data, in bytes."""
    text = stage.redis_cli("info", "memory")
    return next(
        int(line.split(":")[1])
        for line in text.splitlines()
        if line.startswith("used_memory_dataset:")
    )


def main():
    """Measures and prints."""
    with (
        tempfile.TemporaryDirectory() as directory,
        tempfile.TemporaryDirectory() as out,
        Stage(directory) as stage,
    ):
        stage.redis()
        address = f"127.0.0.1:{stage.ports['ens']}"
        stage.gateway(
            "simulator",
            "--listen",
            address,
            "--world",
            str(world(directory)),
            "--attach-time",
            "1s",
        )
        replica = stage.replica(
            "a",
            WATCH__MAX_STREAMS="10000",
            ENS__ATTACH_PER_SECOND="1000",
            ENS__DESCRIBE_PER_SECOND="1000",
        )
        until("a replica", lambda: ask(stage.url("a-admin", "readyz")))
        messages, services = generate(out)
        time.sleep(5)
        idle, kept = metric(stage, "process_resident_memory_bytes"), used(stage)
        began = cpu_seconds(replica)
        time.sleep(10)
        print(
            f"idle: {idle / 1e6:.1f} MB, "
            f"{(metric(stage, 'process_cpu_seconds_total') - began) / 10:.4f} cores"
        )

        with grpc.insecure_channel(f"127.0.0.1:{stage.ports['a']}") as channel:
            stub = services.AttachmentServiceStub(channel)

            def attach(number):
                request = messages.AttachNetworkInterfaceRequest(
                    instance_id=f"i-{number % INSTANCES}", network_interface_id=f"eni-{number}"
                )
                stub.AttachNetworkInterface(request, timeout=60)

            count = INSTANCES * PER_INSTANCE
            began, started = cpu_seconds(replica), time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                list(pool.map(attach, range(count)))
            took = time.monotonic() - started
            until("the last end", lambda: ended(stage) == count)
            cpu = cpu_seconds(replica) - began
            print(
                f"{count} attaches at {count / took:.0f}/s: {cpu / count * 1000:.2f} ms of CPU "
                "each, to the end"
            )
            print(
                f"redis: {(used(stage) - kept) / INSTANCES:.0f} bytes an instance "
                f"with {PER_INSTANCE} finished attachments"
            )

        before = metric(stage, "process_resident_memory_bytes")
        with grpc.insecure_channel(
            f"127.0.0.1:{stage.ports['a']}", [("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            stub = services.AttachmentServiceStub(channel)
            streams = [
                stub.WatchAttachment(
                    messages.WatchAttachmentRequest(instance_id=f"i-{n % INSTANCES}", follow=True)
                )
                for n in range(WATCHERS)
            ]
            for stream in streams:
                threading.Thread(target=drain, args=(stream,), daemon=True).start()
            until("the streams", lambda: metric(stage, "eni_gateway_watch_streams") == WATCHERS)
            time.sleep(5)
            began = cpu_seconds(replica)
            time.sleep(20)
            cores = (cpu_seconds(replica) - began) / 20
            more = metric(stage, "process_resident_memory_bytes") - before
            print(
                f"{WATCHERS} watch streams over one connection: {more / 1e6:.1f} MB more, "
                f"{cores:.3f} cores while nothing happens"
            )


def cpu_seconds(process):
    """What a process used so far; the metric counts whole seconds only."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ended(stage):
    """Attempts that came to an end."""
    lines = ask(stage.url("a-admin", "metrics")).splitlines()
    return sum(
        float(line.split()[1]) for line in lines if line.startswith("eni_gateway_attempts_total")
    )


def drain(stream):
    """Reads until the channel closes."""
    try:
        for _ in stream:
            pass
    except grpc.RpcError:
        pass


if __name__ == "__main__":
    main()
