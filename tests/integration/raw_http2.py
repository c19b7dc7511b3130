"""Just enough HTTP/2 to call a gRPC server badly, which a proper client will not do.

As a program, `raw_http2.py HOST:PORT REQUEST_IN_HEX COUNT`: opens COUNT calls of Generate, prints "open" and waits for
its end.
"""

import socket
import struct
import sys
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4
CANCEL = 8
LARGEST_WINDOW = 2**31 - 1


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name, value):
    """A header that uses no table of HPACK's."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


class Connection:
    """One connection. `window` is how many bytes of each stream the server may send before it is told more."""

    def __init__(self, address, window=LARGEST_WINDOW):
        host, port = address.rsplit(":", 1)
        self.address = address
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.next_stream = 1
        self.buffer = b""
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, window)
        # The window of the whole connection starts with 65535 bytes, whatever the settings say.
        update = struct.pack(">I", LARGEST_WINDOW - 65535)
        self.send(PREFACE, frame(SETTINGS, 0, 0, settings), frame(WINDOW_UPDATE, 0, 0, update))
        while self.read_frame()[0] != SETTINGS:
            pass
        self.send(frame(SETTINGS, ACK, 0))

    def send(self, *frames):
        self.socket.sendall(b"".join(frames))

    def open(self, message, *headers):
        """The frames of a call of Generate; `message` is the request as bytes. Send them with `send`."""
        stream = self.next_stream
        self.next_stream += 2
        fields = (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/yoio.v1.InferenceService/Generate"),
            (":authority", self.address),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *headers,
        )
        block = b"".join(literal(name, value) for name, value in fields)
        data = b"\0" + struct.pack(">I", len(message)) + message
        return frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, data)

    def reset(self, stream):
        return frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))

    def widen(self, stream, size):
        """So many bytes more may come."""
        return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size))

    def read_frame(self):
        """(kind, flags, stream, payload) of the next one; ConnectionError once the server has closed."""
        head = self._read(9)
        size = int.from_bytes(head[:3], "big")
        return head[3], head[4], int.from_bytes(head[5:9], "big"), self._read(size)

    def _read(self, size):
        while len(self.buffer) < size:
            piece = self.socket.recv(1 << 16)
            if not piece:
                raise ConnectionError("closed by the server")
            self.buffer += piece
        piece, self.buffer = self.buffer[:size], self.buffer[size:]
        return piece

    def read_until_ended(self, count):
        """Reads until `count` streams have ended, answering pings; how each did, its trailers encoded or b""."""
        ended = {}
        while len(ended) < count:
            kind, flags, stream, payload = self.read_frame()
            if kind == PING and not flags & ACK:
                self.send(frame(PING, ACK, 0, payload))
            elif kind == RST_STREAM:
                ended.setdefault(stream, b"")
            elif kind == HEADERS and flags & END_STREAM:
                ended[stream] = payload
        return ended

    def vanish(self):
        """Closes without a word of HTTP/2, with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def main(address, message, count):
    connection = Connection(address)
    for _ in range(int(count)):
        connection.send(connection.open(bytes.fromhex(message)))
    print("open", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
