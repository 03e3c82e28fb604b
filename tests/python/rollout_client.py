"""Attaches and watches as docs/clients.md advises, while the replicas behind it come and go.

    rollout_client.py TARGET SERVICE_CONFIG

Each line of standard input is a pair, `INSTANCE ENI`. Several workers take one pair after another:
attach, watch the attempt to its end (resuming where the stream broke off), and get it once more.
They stop at the end of the input. Prints one object in the end:

    {"ends": 200, "resumed": 14, "failed": [], "lost": []}

`failed` are calls that failed for good although the channel repeats what may be repeated; `lost`
are attempts whose watch ended without an end, or whose revisions did not rise.
"""

import json
import pathlib
import queue
import random
import sys
import tempfile
import threading
import time

import grpc
from gateway_client import failure, generate

WORKERS = 32
ENDED = {"STATE_ATTACHED", "STATE_FAILED", "STATE_DETACHED"}


class Client:
    """What the workers share."""

    def __init__(self, messages, stub):
        self.messages, self.stub = messages, stub
        self.lock = threading.Lock()
        self.report = {"ends": 0, "resumed": 0, "failed": [], "lost": []}

    def note(self, field, what):
        """Writes down what went wrong."""
        with self.lock:
            self.report[field].append(what)

    def count(self, field):
        """Counts what went well."""
        with self.lock:
            self.report[field] += 1

    def work(self, pairs):
        """Takes pairs until there are none."""
        while (pair := pairs.get()) is not None:
            instance, eni = pair
            try:
                self.attach_and_watch(instance, eni)
            except grpc.RpcError as error:
                self.note("failed", {"pair": pair, **failure(error)})

    def attach_and_watch(self, instance, eni):
        """One attempt, from the call to its end."""
        pair = {"instance_id": instance, "network_interface_id": eni}
        self.stub.AttachNetworkInterface(
            self.messages.AttachNetworkInterfaceRequest(**pair), timeout=30
        )
        end = self.watch(pair)
        if end is None:
            return
        now = self.stub.GetAttachment(
            self.messages.GetAttachmentRequest(**pair), timeout=10
        ).attachment
        if (now.uid, now.state) != (end.uid, end.state):
            self.note(
                "lost",
                {"pair": pair, "why": f"the watch ended with {end}, and then there was {now}"},
            )
            return
        self.count("ends")

    def watch(self, pair):
        """Follows an attempt over as many streams as it takes; its last message."""
        revision, last, pause = 0, None, 0.05
        state = self.messages.Attachment.State.Name
        while True:
            request = self.messages.WatchAttachmentRequest(after_revision=revision, **pair)
            try:
                for message in self.stub.WatchAttachment(request):
                    if not message.HasField("attachment"):
                        continue
                    if message.attachment.revision <= revision:
                        self.note(
                            "lost",
                            {
                                "pair": pair,
                                "why": f"revision {revision}, then {message.attachment}",
                            },
                        )
                    last, revision, pause = message.attachment, message.attachment.revision, 0.05
                if last is None or state(last.state) not in ENDED:
                    self.note("lost", {"pair": pair, "why": f"the stream ended with {last}"})
                    return None
                return last
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                self.count("resumed")
                time.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(pause * 2, 2)


def main():
    """Reads pairs until the input ends."""
    target, config = sys.argv[1:]
    options = [
        ("grpc.service_config", pathlib.Path(config).read_text()),
        # A list of addresses is no valid :authority, and servers reset calls that bring one.
        ("grpc.default_authority", "eni-gateway"),
    ]
    with tempfile.TemporaryDirectory() as out, grpc.insecure_channel(target, options) as channel:
        messages, services = generate(out)
        client = Client(messages, services.AttachmentServiceStub(channel))
        pairs = queue.Queue(maxsize=WORKERS)
        workers = [threading.Thread(target=client.work, args=(pairs,)) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        for line in sys.stdin:
            pairs.put(line.split())
        for _ in workers:
            pairs.put(None)
        for worker in workers:
            worker.join()
        print(json.dumps(client.report))


if __name__ == "__main__":
    main()
