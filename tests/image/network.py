"""A name server and a TLS terminator, as small as they can be."""

import asyncio
import socket
import ssl
import struct
import threading

A, AAAA, NO_SUCH_NAME = 1, 28, 3


class NameServer:
    """Answers for the given names on 127.0.0.1:53, and keeps what it was asked."""

    def __init__(self, names):
        self.names, self.asked = names, []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            query, sender = self.socket.recvfrom(512)
            self.socket.sendto(self.answer(query), sender)

    def answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        name, (kind,) = ".".join(labels), struct.unpack_from("!H", query, at + 1)
        question = query[12 : at + 5]
        self.asked.append((name, kind))
        address, answer = self.names.get(name), b""
        if address and kind == A:
            # A pointer to the question's name; class IN; it lives for no time.
            answer = struct.pack("!HHHIH", 0xC00C, A, 1, 0, 4) + socket.inet_aton(address)
        flags = 0x8180 if address else 0x8180 | NO_SUCH_NAME
        return (
            query[:2]
            + struct.pack("!HHHHH", flags, 1, 1 if answer else 0, 0, 0)
            + question
            + answer
        )


class TlsTerminator:
    """Takes TLS on one port of loopback and passes what is inside to another."""

    def __init__(self, port, behind, certificate, key):
        self.port, self.behind = port, behind
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(certificate, key)
        listening = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self.serve(listening)), daemon=True).start()
        assert listening.wait(10)

    async def serve(self, listening):
        server = await asyncio.start_server(
            self.connection, "127.0.0.1", self.port, ssl=self.context
        )
        listening.set()
        await server.serve_forever()

    async def connection(self, reader, writer):
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self.behind)
        await asyncio.gather(self.copy(reader, inner_writer), self.copy(inner_reader, writer))

    @staticmethod
    async def copy(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
