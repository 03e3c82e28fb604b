"""Frames of HTTP/2 and requests of gRPC, byte by byte."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
SERVICE = "/eni.gateway.v1.AttachmentService/"


def frame(kind, flags, stream, payload=b""):
    """One frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def hello(*settings):
    """What opens a connection, with these settings (id, value)."""
    return PREFACE + frame(SETTINGS, 0, 0, b"".join(i.to_bytes(2, "big") + v.to_bytes(4, "big") for i, v in settings))


def text(value):
    """A string of HPACK."""
    value = value.encode()
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest, length = len(value) - 127, bytearray([127])
    while rest >= 128:
        length.append(rest % 128 | 128)
        rest //= 128
    return bytes(length) + bytes([rest]) + value


def header(name, value):
    """A header that is not indexed."""
    return b"\0" + text(name) + text(value)


def headers(path, **more):
    """The header list of a call."""
    pairs = {":method": "POST", ":scheme": "http", ":authority": "gateway", ":path": path}
    pairs |= {"content-type": "application/grpc", "te": "trailers"}
    pairs |= {name.replace("_", "-"): value for name, value in more.items()}
    return b"".join(header(name, value) for name, value in pairs.items())


def message(*fields):
    """A gRPC message whose n-th field is the n-th string, or the strings of a list."""
    body = b""
    for number, values in enumerate(fields, 1):
        for value in [values] if isinstance(values, str) else values:
            body += bytes([number << 3 | 2, len(value)]) + value.encode()
    return b"\0" + len(body).to_bytes(4, "big") + body


def call(n, rpc, *fields, **more):
    """The n-th call of a connection."""
    stream = 2 * n + 1
    path = rpc if rpc.startswith("/") else SERVICE + rpc
    return frame(HEADERS, END_HEADERS, stream, headers(path, **more)) + frame(DATA, END_STREAM, stream, message(*fields))


def follow(n, instance, **more):
    """The n-th call of a connection: a watch of an instance that does not end."""
    stream = 2 * n + 1
    body = bytes([0x0A, len(instance)]) + instance.encode() + b"\x20\x01"
    data = b"\0" + len(body).to_bytes(4, "big") + body
    return frame(HEADERS, END_HEADERS, stream, headers(SERVICE + "WatchAttachment", **more)) + frame(DATA, END_STREAM, stream, data)


def unfinished(n, path, size):
    """The n-th call of a connection, of whose message one byte never comes."""
    stream, most = 2 * n + 1, 16_000
    body = b"\0" + (size + 1).to_bytes(4, "big") + b"\x0a" * size
    parts = (body[start : start + most] for start in range(0, len(body), most))
    return frame(HEADERS, END_HEADERS, stream, headers(path)) + b"".join(frame(DATA, 0, stream, part) for part in parts)
