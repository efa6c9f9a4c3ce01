"""A client that speaks the PostgreSQL protocol 3.0 message by message, as drivers would never do."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

PROTOCOL_3_0 = 196608
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102


# MARK: what a client sends


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """One message: its type, its length, its payload."""
    return kind + struct.pack("!I", len(payload) + 4) + payload


def startup_packet(version: int, payload: bytes = b"") -> bytes:
    """A message without a type, as only the first one of a connection is."""
    return struct.pack("!II", len(payload) + 8, version) + payload


def startup(parameters: dict[str, str], version: int = PROTOCOL_3_0) -> bytes:
    """StartupMessage."""
    pairs = b"".join(name.encode() + b"\0" + value.encode() + b"\0" for name, value in parameters.items())
    return startup_packet(version, pairs + b"\0")


def cancel_request(pid: int, secret: int) -> bytes:
    """CancelRequest."""
    return startup_packet(CANCEL_REQUEST, struct.pack("!II", pid, secret))


def query(sql: str) -> bytes:
    """Query."""
    return frame(b"Q", sql.encode() + b"\0")


def parse(sql: str, name: str = "", types: tuple[int, ...] = ()) -> bytes:
    """Parse."""
    oids = struct.pack(f"!H{len(types)}I", len(types), *types)
    return frame(b"P", name.encode() + b"\0" + sql.encode() + b"\0" + oids)


def bind(values: tuple[str | None, ...] = (), statement: str = "", portal: str = "") -> bytes:
    """Bind, all values and results as text."""
    body = b"".join(
        struct.pack("!i", -1) if value is None else struct.pack("!i", len(value.encode())) + value.encode()
        for value in values)
    return frame(b"B", portal.encode() + b"\0" + statement.encode() + b"\0" + struct.pack("!HH", 0, len(values)) + body
                 + struct.pack("!H", 0))


def describe_statement(name: str = "") -> bytes:
    """Describe of a statement."""
    return frame(b"D", b"S" + name.encode() + b"\0")


def describe_portal(name: str = "") -> bytes:
    """Describe of a portal."""
    return frame(b"D", b"P" + name.encode() + b"\0")


def execute(portal: str = "", rows: int = 0) -> bytes:
    """Execute; `rows` 0 means all."""
    return frame(b"E", portal.encode() + b"\0" + struct.pack("!I", rows))


def close_statement(name: str = "") -> bytes:
    """Close of a statement."""
    return frame(b"C", b"S" + name.encode() + b"\0")


def close_portal(name: str = "") -> bytes:
    """Close of a portal."""
    return frame(b"C", b"P" + name.encode() + b"\0")


def copy_data(data: bytes) -> bytes:
    """CopyData."""
    return frame(b"d", data)


def copy_fail(reason: str) -> bytes:
    """CopyFail."""
    return frame(b"f", reason.encode() + b"\0")


def function_call(oid: int, arguments: tuple[bytes | None, ...]) -> bytes:
    """FunctionCall, arguments and result in binary."""
    body = b"".join(
        struct.pack("!i", -1) if argument is None else struct.pack("!i", len(argument)) + argument
        for argument in arguments)
    return frame(b"F", struct.pack("!IHHH", oid, 1, 1, len(arguments)) + body + struct.pack("!H", 1))


SYNC = frame(b"S")
FLUSH = frame(b"H")
COPY_DONE = frame(b"c")
TERMINATE = frame(b"X")

#: A server's ReadyForQuery, up to its state.
READY = b"Z\0\0\0\5"


# MARK: what it gets


@dataclass(frozen=True)
class Message:
    """A message from the server."""

    kind: str
    payload: bytes

    @property
    def fields(self) -> dict[str, str]:
        """Fields of an ErrorResponse or NoticeResponse, by their letter: `C` is the SQLSTATE, `M` the text."""
        parts = self.payload.split(b"\0")
        return {chr(part[0]): part[1:].decode() for part in parts if part}

    @property
    def values(self) -> list[str | None]:
        """Columns of a DataRow, as text."""
        (count,) = struct.unpack_from("!H", self.payload)
        offset, values = 2, []
        for _ in range(count):
            (length,) = struct.unpack_from("!i", self.payload, offset)
            offset += 4
            values.append(None if length < 0 else self.payload[offset:offset + length].decode())
            offset += max(length, 0)
        return values

    @property
    def text(self) -> str:
        """The payload up to its first zero byte: the tag of a CommandComplete, the state of a ReadyForQuery."""
        return self.payload.split(b"\0")[0].decode()

    @property
    def in_short(self) -> str:
        """Its type, and what it says (`told`)."""
        match self.kind:
            case "E": return f"E {self.fields['C']}"
            case "D": return " ".join(["D", *(value or "null" for value in self.values)])
            case "C" | "Z": return f"{self.kind} {self.text}"
            case _: return self.kind

    def __repr__(self) -> str:
        if self.kind in "EN":
            return f"{self.kind}{self.fields}"
        return f"{self.kind}{self.payload[:200]!r}"


class Closed(Exception):
    """The other side closed the connection."""


class WireClient:
    """A connection. Without `parameters` it does not start up: it is a bare socket with frames."""

    def __init__(self, port: int, parameters: dict[str, str] | None = None, *, host: str = "127.0.0.1",
                 timeout: float = 20) -> None:
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        #: What has gone through the socket until now; inside of TLS, without what TLS adds.
        self.bytes_sent = self.bytes_received = 0
        self.parameters: dict[str, str] = {}
        self.pid = self.secret = 0
        if parameters is not None:
            self.start_up(parameters)

    @classmethod
    def app(cls, port: int, **parameters: str) -> WireClient:
        """User `app` on database `app`, with further startup parameters."""
        return cls(port, {"user": "app", "database": "app", **parameters})

    def start_up(self, parameters: dict[str, str]) -> None:
        """Sends a StartupMessage and reads up to the first ReadyForQuery, where nobody asks for a password."""
        self.send(startup(parameters))
        self._finish_startup()

    def _finish_startup(self) -> None:
        for message in self.until_ready():
            if message.kind == "E":
                raise AssertionError(f"refused: {message}")
            if message.kind == "S":
                name, value, _ = message.payload.split(b"\0")
                self.parameters[name.decode()] = value.decode()
            if message.kind == "K":
                self.pid, self.secret = struct.unpack("!II", message.payload)

    def __enter__(self) -> WireClient:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Closes the socket without a Terminate."""
        self.socket.close()

    def reset(self) -> None:
        """Closes the socket with a TCP reset, as a host that crashes and comes back would."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, *messages: bytes) -> None:
        """Sends bytes, all messages in one write."""
        data = b"".join(messages)
        self.socket.sendall(data)
        self.bytes_sent += len(data)

    def receive(self) -> Message:
        """The next message; raises Closed at the end of the stream."""
        header = self._take(5)
        (length,) = struct.unpack("!I", header[1:])
        return Message(chr(header[0]), self._take(length - 4))

    def receive_bytes(self, count: int) -> bytes:
        """Bytes without framing, such as the answer to an SSLRequest."""
        return self._take(count)

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            try:
                data = self.socket.recv(max(count - len(self._buffer), 65536))
            except ConnectionResetError:
                data = b""
            if not data:
                raise Closed(f"after {bytes(self._buffer[-1000:])!r}")
            self._buffer += data
            self.bytes_received += len(data)
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def until(self, last: Callable[[Message], bool]) -> list[Message]:
        """Messages up to and with the one that `last` is true for; or up to the end, after a FATAL."""
        messages: list[Message] = []
        while True:
            try:
                message = self.receive()
            except Closed:
                if messages and messages[-1].kind == "E" and messages[-1].fields.get("V") in ("FATAL", "PANIC"):
                    return messages
                raise
            messages.append(message)
            if last(message):
                return messages

    def until_ready(self) -> list[Message]:
        """Messages up to and with the next ReadyForQuery."""
        return self.until(lambda message: message.kind == "Z")

    def ask(self, *messages: bytes) -> list[Message]:
        """Sends messages, the last of which is a Query or a Sync, and returns the answer up to ReadyForQuery."""
        self.send(*messages)
        return self.until_ready()

    def rows(self, sql: str) -> list[list[str | None]]:
        """Rows of a simple query; an error is an AssertionError."""
        answer = self.ask(query(sql))
        for message in answer:
            assert message.kind != "E", message
        return [message.values for message in answer if message.kind == "D"]

    def is_closed(self, within: float = 10) -> bool:
        """Whether the other side closes the connection within some seconds. What it sends before is dropped."""
        self.socket.settimeout(within)
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True
        return True


def kinds(messages: list[Message]) -> str:
    """The types of messages, as in `TDCZ`."""
    return "".join(message.kind for message in messages)


def told(messages: list[Message]) -> list[str]:
    """Messages in short: values of rows, tags, SQLSTATEs and states after the types, as in `D 1`, `E 40003`, `Z I`."""
    return [message.in_short for message in messages]


def error(messages: list[Message]) -> dict[str, str]:
    """The fields of the only ErrorResponse among messages."""
    errors = [message.fields for message in messages if message.kind == "E"]
    assert len(errors) == 1, messages
    return errors[0]
