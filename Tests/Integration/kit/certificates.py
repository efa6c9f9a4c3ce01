"""Certificates for tests, made by openssl: authorities, servers, clients."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .processes import run

_ECDSA = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path

    def copy_to(self, other: Certificate) -> None:
        """Puts this one in another one's place."""
        shutil.copy(self.certificate, other.certificate)
        shutil.copy(self.key, other.key)


class Certificates:
    """Everything in one folder: an authority, what it has signed, and the same of somebody else."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lifeguard-certificates-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.authority = self._authority("ca")
        self.foreign_authority = self._authority("foreign-ca")
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
        self.server = self._signed("server", "localhost", self.authority, names)
        self.other_server = self._signed("other-server", "localhost", self.authority, names)
        self.foreign_server = self._signed("foreign-server", "localhost", self.foreign_authority, names)
        #: The name of another host.
        self.misnamed_server = self._signed("misnamed-server", "elsewhere", self.authority, "subjectAltName=DNS:elsewhere")
        #: RSA, and a signature by another hash, which channel binding has to use as well.
        self.rsa_server = self._signed(
            "rsa-server", "localhost", self.authority, names, kind=("rsa:2048",), digest="sha512")
        self.alice = self._signed("alice", "alice", self.authority)
        self.mallory = self._signed("mallory", "mallory", self.authority)
        self.expired_alice = self._expired("expired-alice", "alice", self.authority)
        self.foreign_alice = self._signed("foreign-alice", "alice", self.foreign_authority)

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self, name: str) -> Certificate:
        return Certificate(self.folder / f"{name}.crt", self.folder / f"{name}.key")

    def _authority(self, name: str) -> Certificate:
        files = self._files(name)
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
             "-subj", f"/CN={name}", "-keyout", files.key, "-out", files.certificate])
        return files

    def _request(self, name: str, common_name: str, kind: tuple[str, ...] = _ECDSA) -> Path:
        """Makes a key; returns the request for its certificate."""
        key = self._files(name).key
        request = self.folder / f"{name}.csr"
        run(["openssl", "req", "-new", "-newkey", *kind, "-nodes", "-subj", f"/CN={common_name}", "-keyout", key,
             "-out", request])
        # libpq refuses a client's key that others may read.
        key.chmod(0o600)
        return request

    def _signed(self, name: str, common_name: str, authority: Certificate, extension: str = "", *,
                kind: tuple[str, ...] = _ECDSA, digest: str = "sha256") -> Certificate:
        files = self._files(name)
        request = self._request(name, common_name, kind)
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(extension + "\n")
        run(["openssl", "x509", "-req", f"-{digest}", "-in", request, "-CA", authority.certificate,
             "-CAkey", authority.key, "-CAcreateserial", "-days", "30", "-extfile", extensions,
             "-out", files.certificate])
        return files

    def _expired(self, name: str, common_name: str, authority: Certificate) -> Certificate:
        """One whose time is over, which only `openssl ca` makes."""
        files = self._files(name)
        request = self._request(name, common_name)
        settings = self.folder / "expired.cnf"
        settings.write_text("[ca]\ndefault_ca = past\n[past]\ndatabase = index.txt\nnew_certs_dir = .\n"
                            "rand_serial = yes\ndefault_md = sha256\npolicy = any\n[any]\ncommonName = supplied\n")
        (self.folder / "index.txt").touch()
        run(["openssl", "ca", "-batch", "-notext", "-config", settings, "-in", request, "-out", files.certificate,
             "-cert", authority.certificate, "-keyfile", authority.key, "-startdate", "20200101000000Z",
             "-enddate", "20200102000000Z"], cwd=self.folder)
        return files

    def settings(self, mode: str, server: Certificate | None = None) -> dict[str, str]:
        """Keys of [server] for TLS with clients."""
        shown = server or self.server
        return {"tls_mode": mode, "tls_cert": str(shown.certificate), "tls_key": str(shown.key),
                "tls_ca": str(self.authority.certificate)}

    def verify(self) -> dict[str, str]:
        """What libpq needs to verify the server fully."""
        return {"sslmode": "verify-full", "sslrootcert": str(self.authority.certificate), "host": "localhost"}

    @staticmethod
    def client(certificate: Certificate) -> dict[str, str]:
        """What libpq needs to show a certificate."""
        return {"sslcert": str(certificate.certificate), "sslkey": str(certificate.key)}
