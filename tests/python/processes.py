"""What the Python tests share: free ports, waits for a condition, and processes that end with the
test."""

import contextlib
import http.client
import os
import pathlib
import random
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = os.environ.get("ENI_GATEWAY_BINARY", str(ROOT / "target/debug/eni-gateway"))
# The key that the simulator accepts by default.
KEY = {f"ALIBABA_CLOUD_ACCESS_KEY_{part}": "simulator" for part in ("ID", "SECRET")}


RESERVED = []


def free_port():
    """A port without a listener, below the range that the system assigns to connections. It stays
    this process' own: as in the Rust tests, a socket with the port's name reserves it."""
    while True:
        port = random.randrange(10_000, 30_000)
        reservation = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError), socket.socket() as listener:
            reservation.bind(f"\0eni-gateway-tests-port-{port}")
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            RESERVED.append(reservation)
            return port
        reservation.close()


def listens(port):
    """Whether a process accepts connections there. Raises OSError if not."""
    return socket.create_connection(("127.0.0.1", port), 1).close() is None


def until(what, holds, patience=60, process=None):
    """Waits until `holds()` is true. Fails after `patience` seconds, and if `process` ended."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if holds():
                return
        if process and process.poll() is not None:
            raise AssertionError(f"{what} ended: {process.communicate(timeout=5)[0]}")
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {patience} s")


class Processes:
    """Processes with one log in a folder. All of them end with it, the newest first."""

    def __init__(self, directory):
        self.directory, self.processes = pathlib.Path(directory), []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.kill()
            process.wait()

    def start(self, *command, **environment):
        """Starts a program. It inherits only PATH and HOME."""
        keep = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        with open(self.directory / "log", "ab") as log:
            command = [str(part) for part in command]
            process = subprocess.Popen(command, env={**keep, **environment}, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def front(self, program, replica):
        """Starts nginx or haproxy in front of a replica's port. Returns its own port."""
        port, file = free_port(), self.directory / f"{program}.conf"
        name, options = {
            "nginx": ("nginx.conf", ["-p", self.directory, "-e", "stderr", "-c"]),
            "haproxy": ("haproxy.cfg", ["-f"]),
        }[program]
        text = (ROOT / "tests/proxies" / name).read_text()
        for place, value in [("@PORT@", port), ("@REPLICA@", replica), ("@FOLDER@", self.directory)]:
            text = text.replace(place, str(value))
        file.write_text(text)
        process = self.start(program, *options, file)
        until(program, lambda: listens(port), process=process)
        return port

    def gateway(self, *arguments, **settings):
        """Starts the program with these settings and the simulator's key."""
        settings = {f"ENI_GATEWAY_{name}": str(value) for name, value in settings.items()}
        return self.start(PROGRAM, *arguments, **KEY, **settings)
