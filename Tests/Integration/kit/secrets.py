"""The passwords of the tests, and what servers keep of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

#: Each of them is searched for in all that a daemon shows; so they are like nothing else.
GOOD = "gd-Xq7vT2m"
OTHER = "ot-Wz4kR9p"
WRONG = "wr-Bn6jL1s"
SERVER = "sv-Hc8dY3f"
#: SASLprep makes `sp-IX X` of it: a soft hyphen, a no-break space.
UNPREPARED = "sp-I\u00adX\u00a0X"
PREPARED = "sp-IX X"
LONG = "lg-Qm5" + "x" * 900

ALL = (GOOD, OTHER, WRONG, SERVER, UNPREPARED, PREPARED, LONG)


def md5_secret(user: str, password: str) -> str:
    """As in pg_authid with password_encryption = md5."""
    return "md5" + hashlib.md5((password + user).encode()).hexdigest()


def scram_secret(password: str, iterations: int = 4096) -> str:
    """As in pg_authid with password_encryption = scram-sha-256."""
    salt = b"lifeguard-sample"
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def write_userlist(path: Path, users: dict[str, str]) -> str:
    """Writes users and secrets; returns the path for the settings."""
    quoted = {name: secret.replace('"', '""') for name, secret in users.items()}
    path.touch(0o600)
    path.write_text("".join(f'"{name}" "{secret}"\n' for name, secret in quoted.items()))
    return str(path)
