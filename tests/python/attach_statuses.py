"""Attaches pair after pair, and prints each status as grpcio-status decodes it: one JSON object a line.

    attach_statuses.py HOST:PORT INSTANCE/ENI...

The messages come from the proto, generated anew each time. Knows nothing of the gateway but its address and its proto.
"""

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


def attach(messages, stub, instance, eni):
    """One attach, as a line."""
    request = messages.AttachNetworkInterfaceRequest(instance_id=instance, network_interface_id=eni)
    try:
        response = stub.AttachNetworkInterface(request, timeout=10)
    except grpc.RpcError as error:
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
            "trailers": {key: value for key, value in error.trailing_metadata() or () if isinstance(value, str)},
        }
    return {"code": "OK", "attachment": describe(response.attachment)}


def main():
    """Calls in the order of the arguments."""
    endpoint, *pairs = sys.argv[1:]
    with tempfile.TemporaryDirectory() as out:
        messages, services = generate(out)
        with grpc.insecure_channel(endpoint) as channel:
            stub = services.AttachmentServiceStub(channel)
            for pair in pairs:
                instance, eni = pair.split("/")
                print(json.dumps(attach(messages, stub, instance, eni)), flush=True)


if __name__ == "__main__":
    main()
