"""Watches all instances by the code of docs/clients.md, which must precede this, and prints for each
line of standard input what it holds as attached. The target comes first in the arguments.
"""

import json
import pathlib
import sys
import threading

import grpc


def attached(fleet):
    """The attached ENIs, as `instance/eni`."""
    return sorted(
        f"{instance}/{attachment.network_interface_id}"
        for instance, (_, attachments) in list(fleet.items())
        for attachment in attachments
        if attachment.state == pb.Attachment.STATE_ATTACHED  # noqa: F821
    )


options = [
    # A list of addresses is no valid :authority.
    ("grpc.default_authority", "eni-gateway"),
    ("grpc.service_config", pathlib.Path("proto/eni/gateway/v1/service_config.json").read_text()),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
with grpc.insecure_channel(sys.argv[1], options) as channel:
    fleet = {}
    stub = rpc.AttachmentServiceStub(channel)  # noqa: F821
    threading.Thread(target=watch_fleet, args=(stub, fleet), daemon=True).start()  # noqa: F821
    for _ in sys.stdin:
        print(json.dumps(attached(fleet)), flush=True)
