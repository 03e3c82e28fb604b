"""Calls a server of its own with the published service configuration, as gRPC itself applies it.

Usage: service_config.py SERVICE_CONFIG.json
Prints one JSON object: for each RPC the code that the client saw in the end, and the milliseconds
between the calls that the server saw; `hangs`: the code of a read that is never answered, without a
deadline of the caller's.
"""

import json
import pathlib
import sys
import threading
import time
from concurrent import futures

import grpc

SERVICE = "eni.gateway.v1.AttachmentService"
PUSHBACK_MS = 700


class Server(grpc.GenericRpcHandler):
    """Refuses the first call of each RPC with UNAVAILABLE and a pushback; answers the second one.

    With `hangs` it answers nothing.
    """

    def __init__(self, hangs=False):
        self.seen, self.hangs = {}, hangs

    def service(self, details):
        rpc = details.method.rsplit("/", 1)[1]
        streams = rpc == "WatchAttachment"

        def serve(_, context):
            calls = self.seen.setdefault(rpc, [])
            calls.append(time.monotonic())
            while self.hangs and context.is_active():
                time.sleep(0.05)
            if len(calls) == 1:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", str(PUSHBACK_MS)),))
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            return iter(()) if streams else b""

        make = (
            grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
        )
        return make(serve)


def listening(handler):
    """A server that is not started yet, and its address."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    return server, f"127.0.0.1:{port}"


def call(channel, rpc):
    path = f"/{SERVICE}/{rpc}"
    try:
        if rpc == "WatchAttachment":
            list(channel.unary_stream(path)(b""))
        else:
            channel.unary_unary(path)(b"")
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def main():
    options = [("grpc.service_config", pathlib.Path(sys.argv[1]).read_text())]
    hanging, address = listening(Server(hangs=True))
    hanging.start()
    with (
        futures.ThreadPoolExecutor(1) as aside,
        grpc.insecure_channel(address, options=options) as channel,
    ):
        hangs = aside.submit(call, channel, "GetAttachment")
        seen = each_rpc(options)
        seen["hangs"] = hangs.result()
    hanging.stop(None)
    print(json.dumps(seen))


def each_rpc(options):
    handler = Server()
    server, address = listening(handler)
    # The first call is there before the server: it waits, and does not fail.
    threading.Timer(0.5, server.start).start()
    seen = {}
    with grpc.insecure_channel(address, options=options) as channel:
        for rpc in (
            "AttachNetworkInterface",
            "GetAttachment",
            "ListAttachments",
            "WatchAttachment",
        ):
            code, times = call(channel, rpc), handler.seen[rpc]
            seen[rpc] = {
                "code": code,
                "pauses_ms": [round(1000 * (b - a)) for a, b in zip(times, times[1:])],
            }
    server.stop(None)
    return seen


main()
