"""Makes the calls that standard input names, and prints each answer as grpcio-status reads it.

Each input line is a list of concurrent calls. Each output line is the list of their results
(one line each; broken here):

    [{"target": "127.0.0.1:50051", "rpc": "GetAttachment", "request": {"instance_id": "i-1"},
      "timeout": 10}]
    [{"code": "INVALID_ARGUMENT", "reason": "INVALID_FIELD", "message": "...", "details": {...},
      "trailers": {...}}]

The answer is in `response`, or in `messages` for a stream. The messages come from the proto,
generated at each start. The client knows nothing of the gateway but its proto.

Both sides keep `timeout` (in seconds; default: 60). `gateway_timeout` is sent as `grpc-timeout`
and kept by the gateway alone: the client has no timer then. A watch with `until_attached` ends
once that many ENIs were shown as attached.
"""

import concurrent.futures
import importlib
import json
import pathlib
import sys
import tempfile

import grpc
import grpc_tools
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from grpc_tools import protoc

# protoc's own types lie beside grpc_tools.
WELL_KNOWN = pathlib.Path(grpc_tools.__file__).parent / "_proto"
PROTO = pathlib.Path(__file__).parents[2] / "proto"
FILE = "eni/gateway/v1/attachment_service.proto"
DETAILS = [
    error_details_pb2.ErrorInfo,
    error_details_pb2.RetryInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.QuotaFailure,
    error_details_pb2.PreconditionFailure,
    error_details_pb2.ResourceInfo,
    error_details_pb2.RequestInfo,
    error_details_pb2.Help,
]


def generate(out):
    """Generates the client from the proto."""
    includes = [f"-I{PROTO}", f"-I{WELL_KNOWN}"]
    if protoc.main(["protoc", *includes, f"--python_out={out}", f"--grpc_python_out={out}", FILE]):
        sys.exit("the proto does not compile")
    sys.path.insert(0, out)
    module = FILE.removesuffix(".proto").replace("/", ".")
    return importlib.import_module(module + "_pb2"), importlib.import_module(module + "_pb2_grpc")


def describe(message):
    """A message as plain data, with the proto's own field names."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def failure(error):
    """A status, with its details decoded."""
    details = {}
    status = rpc_status.from_call(error)
    for packed in status.details if status else []:
        for kind in DETAILS:
            if packed.Is(kind.DESCRIPTOR):
                detail = kind()
                packed.Unpack(detail)
                details[kind.DESCRIPTOR.name] = describe(detail)
    return {
        "code": error.code().name,
        "message": error.details(),
        "reason": details.get("ErrorInfo", {}).get("reason"),
        "details": details,
        "trailers": {
            key: value for key, value in error.trailing_metadata() or () if isinstance(value, str)
        },
    }


class Client:
    """Calls by name, over one channel for each target."""

    def __init__(self, messages, services):
        self.messages, self.services, self.stubs = messages, services, {}

    def stub(self, target):
        """The stub for a target; made by the main thread alone."""
        if target not in self.stubs:
            self.stubs[target] = self.services.AttachmentServiceStub(grpc.insecure_channel(target))
        return self.stubs[target]

    def call(self, stub, call):
        """One call, to its end."""
        rpc, options = call["rpc"], {"timeout": call.get("timeout", 60)}
        if "gateway_timeout" in call:
            options = {"metadata": [("grpc-timeout", f"{round(1000 * call['gateway_timeout'])}m")]}
        request = json_format.ParseDict(call["request"], getattr(self.messages, rpc + "Request")())
        if not rpc.startswith("Watch"):
            try:
                return {"code": "OK", "response": describe(getattr(stub, rpc)(request, **options))}
            except grpc.RpcError as error:
                return failure(error)
        messages, attached = [], set()
        try:
            stream = getattr(stub, rpc)(request, **options)
            for message in stream:
                messages.append(describe(message))
                if rpc == "WatchAttachments":
                    continue
                if message.attachment.state == self.messages.Attachment.STATE_ATTACHED:
                    attached.add(message.attachment.network_interface_id)
                if len(attached) == call.get("until_attached"):
                    stream.cancel()
                    break
            return {"code": "OK", "messages": messages}
        except grpc.RpcError as error:
            return {**failure(error), "messages": messages}


def main():
    """Line in, line out."""
    with tempfile.TemporaryDirectory() as out:
        client = Client(*generate(out))
        for line in sys.stdin:
            calls = json.loads(line)
            with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(calls))) as pool:
                stubs = [client.stub(call["target"]) for call in calls]
                print(json.dumps(list(pool.map(client.call, stubs, calls))), flush=True)


if __name__ == "__main__":
    main()
