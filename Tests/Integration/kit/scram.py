"""The client's side of SCRAM-SHA-256 (RFC 7677) and of md5, message by message, so that tests can bend each of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct

from .wire import Message, WireClient, frame, startup

MECHANISM = b"SCRAM-SHA-256"

# Codes of an Authentication message.
OK, CLEARTEXT, MD5, SASL, SASL_CONTINUE, SASL_FINAL = 0, 3, 5, 10, 11, 12


def request(message: Message) -> tuple[int, bytes]:
    """What an Authentication message asks for, and what comes with it."""
    assert message.kind == "R", message
    (code,) = struct.unpack_from("!I", message.payload)
    return code, message.payload[4:]


def sasl_initial(first: bytes, length: int | None = None, mechanism: bytes = MECHANISM) -> bytes:
    """SASLInitialResponse, with whatever length."""
    return frame(b"p", mechanism + b"\0" + struct.pack("!i", len(first) if length is None else length) + first)


def password_message(password: str) -> bytes:
    """PasswordMessage with a password in clear."""
    return frame(b"p", password.encode() + b"\0")


def md5_answer(user: str, password: str, salt: bytes) -> bytes:
    """PasswordMessage that answers AuthenticationMD5Password."""
    inner = hashlib.md5((password + user).encode()).hexdigest()
    return frame(b"p", b"md5" + hashlib.md5(inner.encode() + salt).hexdigest().encode() + b"\0")


class Scram:
    """One exchange: `first`, then `final` with the server's answer, then `is_proven` with its last word.

    The password is taken as it is; SASLprep is for the caller.
    """

    def __init__(self, password: str, *, nonce: str = "rOprNGfwEbeRWgbNEkqO", binding: str = "n,,",
                 name: str = "") -> None:
        self._password = password
        self.nonce = nonce
        self._binding = binding
        self._bare = f"n={name},r={nonce}"
        self._signature = b""

    @property
    def first(self) -> bytes:
        """client-first-message."""
        return (self._binding + self._bare).encode()

    def final(self, server_first: bytes) -> bytes:
        """client-final-message."""
        fields = attributes(server_first)
        assert fields["r"].startswith(self.nonce) and len(fields["r"]) > len(self.nonce), fields
        salted = hashlib.pbkdf2_hmac(
            "sha256", self._password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        unproven = f"c={base64.b64encode(self._binding.encode()).decode()},r={fields['r']}"
        signed = f"{self._bare},{server_first.decode()},{unproven}".encode()
        mask = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(key ^ bits for key, bits in zip(client_key, mask, strict=True))
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        return f"{unproven},p={base64.b64encode(proof).decode()}".encode()

    def is_proven(self, server_final: bytes) -> bool:
        """Whether the server knows the password too."""
        return base64.b64decode(attributes(server_final)["v"]) == self._signature


def attributes(message: bytes) -> dict[str, str]:
    """The attributes of a SCRAM message, by their letter."""
    return dict(part.split("=", 1) for part in message.decode().split(","))


def asked(port: int, user: str, database: str = "app", **more: str) -> tuple[WireClient, int, bytes]:
    """A client that has been asked to prove who it is, and for what."""
    client = WireClient(port)
    client.send(startup({"user": user, "database": database, **more}))
    return client, *request(client.receive())


def begun(port: int, user: str, scram: Scram, database: str = "app") -> tuple[WireClient, bytes]:
    """A client in the middle of SCRAM, and server-first-message."""
    client, code, _ = asked(port, user, database)
    assert code == SASL
    client.send(sasl_initial(scram.first))
    code, server_first = request(client.receive())
    assert code == SASL_CONTINUE
    return client, server_first
