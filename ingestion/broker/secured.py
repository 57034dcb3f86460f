"""A broker that nobody reaches without a certificate or a password: authority, certificates, listeners, rights.

Three listeners on loopback: SASL_SSL for users with passwords or tokens, SSL for clients with certificates, and the controller's
own, which like the broker itself is named by a certificate. What is not allowed by an ACL is denied.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

ADMIN = "fedplant-admin"
_LIFE = timedelta(days=825)


@dataclass(frozen=True)
class Secured:
    """Folder of PEM files, port of the listener for certificates, and passwords of users by name (for PLAIN)."""

    folder: Path
    certificate_port: int
    plain_users: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def ca_file(self) -> Path:
        """The authority that clients must trust."""
        return self.folder / "ca.pem"

    @property
    def certificate_bootstrap(self) -> str:
        """`host:port` for clients with certificates."""
        return f"127.0.0.1:{self.certificate_port}"

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key file of principal `User:CN=<name>`, made at first use."""
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        if not all(path.exists() for path in paths):
            _issue(self.folder, name, *paths)
        return paths

    def client(self, name: str) -> dict[str, Any]:
        """kafka-python options of a client with that certificate, for `certificate_bootstrap`."""
        cert, key = self.issue(name)
        return {
            "security_protocol": "SSL",
            "ssl_cafile": str(self.ca_file),
            "ssl_certfile": str(cert),
            "ssl_keyfile": str(key),
        }

    def properties(self) -> dict[str, str]:
        """What replaces the plaintext listeners in `server.properties`; `{port}` and `{controller_port}` are filled in at start."""
        cert, key = self.issue("broker")
        chain = self.folder / "broker-chain.pem"
        _write(chain, key.read_bytes() + cert.read_bytes())
        users = "".join(f' user_{name}="{word}"' for name, word in self.plain_users.items())
        sasl = "org.apache.kafka.common.security"
        return {
            "listeners": f"SASL://127.0.0.1:{{port}},CERT://127.0.0.1:{self.certificate_port},CONTROLLER://127.0.0.1:{{controller_port}}",
            "advertised.listeners": f"SASL://127.0.0.1:{{port}},CERT://127.0.0.1:{self.certificate_port}",
            "listener.security.protocol.map": "SASL:SASL_SSL,CERT:SSL,CONTROLLER:SSL",
            "inter.broker.listener.name": "CERT",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(chain),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca_file),
            "listener.name.cert.ssl.client.auth": "required",
            "listener.name.controller.ssl.client.auth": "required",
            "listener.name.sasl.sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER",
            "listener.name.sasl.scram-sha-256.sasl.jaas.config": f"{sasl}.scram.ScramLoginModule required;",
            "listener.name.sasl.scram-sha-512.sasl.jaas.config": f"{sasl}.scram.ScramLoginModule required;",
            "listener.name.sasl.plain.sasl.jaas.config": f"{sasl}.plain.PlainLoginModule required{users};",
            # Tokens without a signature: good enough to prove a client's side, never for a plant.
            "listener.name.sasl.oauthbearer.sasl.jaas.config": f"{sasl}.oauthbearer.OAuthBearerLoginModule required "
            'unsecuredLoginStringClaim_sub="broker";',
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:CN=broker;User:CN={ADMIN}",
            "allow.everyone.if.no.acl.found": "false",
        }


def secure(folder: Path, plain_users: Mapping[str, str] | None = None) -> Secured:
    """The security of the broker on this data folder, made at first use and the same afterwards."""
    place = folder / "security"
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    note = place / "port.json"
    if not (place / "ca.pem").exists():
        _authority(place)
    if not note.exists():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            _write(note, json.dumps(probe.getsockname()[1]).encode())
    return Secured(place, int(json.loads(note.read_bytes())), dict(plain_users or {}))


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _authority(folder: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("fedplant embedded broker")
    now = datetime.now(timezone.utc)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(folder / "ca.key", _private(key))
    _write(folder / "ca.pem", cert.public_bytes(serialization.Encoding.PEM))


def _issue(folder: Path, name: str, cert_path: Path, key_path: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    signer: Any = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(timezone.utc)
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    cert = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(_usage(signs=False), critical=True)
        .sign(signer, hashes.SHA256())
    )
    _write(key_path, _private(key))
    _write(cert_path, cert.public_bytes(serialization.Encoding.PEM))


def _name(text: str) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(signs: bool) -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem
