# SPDX-License-Identifier: GPL-2.0
"""A small public key infrastructure, made with openssl (ECDSA, for speed)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import command

_CONFIG = """\
[req]
distinguished_name = dn
prompt = no
[dn]
[ca]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
[client]
basicConstraints = CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
"""


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    name: str
    certificate: Path
    key: Path

    def fingerprint(self) -> str:
        """The certificate's SHA-256 fingerprint, as --peer-fingerprint wants it."""
        shown = command.run(
            "openssl", "x509", "-noout", "-sha256", "-fingerprint", "-in", str(self.certificate)
        )
        return shown.strip().rpartition("=")[2]


class Pki:
    """A certificate authority in a directory; it issues certificates."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._config = directory / "openssl.cnf"
        self._config.write_text(_CONFIG)
        self.authority = self._issue("ca", "ca", None)

    def server(self, name: str) -> Identity:
        """A server's certificate."""
        return self._issue(name, "server", self.authority)

    def client(self, name: str) -> Identity:
        """A client's certificate."""
        return self._issue(name, "client", self.authority)

    def self_signed(self, name: str) -> Identity:
        """A certificate that no authority signed."""
        return self._issue(name, "client", None)

    def _issue(self, name: str, extensions: str, issuer: Identity | None) -> Identity:
        made = Identity(name, self._directory / f"{name}.crt", self._directory / f"{name}.key")
        signed_by = ["-CA", str(issuer.certificate), "-CAkey", str(issuer.key)] if issuer else []
        command.run(
            *("openssl", "req", "-x509", "-config", str(self._config), "-extensions", extensions),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"),
            *("-subj", f"/CN={name}", "-days", "30", *signed_by),
            *("-keyout", str(made.key), "-out", str(made.certificate)),
        )
        made.key.chmod(0o600)
        return made
