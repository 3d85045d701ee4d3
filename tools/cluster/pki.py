"""The cluster's certificate authority and the certificates it issues. Made once, kept in the state directory."""

from __future__ import annotations

import datetime as dt
import ipaddress
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tools import paths

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

VALIDITY = dt.timedelta(days=3650)
"""Longer than any machine keeps an embedded cluster, so that nothing has to rotate."""

CLOCK_SKEW = dt.timedelta(hours=1)


class Authority:
    """A certificate authority in a directory: `ca.crt`, `ca.key` and `<name>.crt`, `<name>.key` of what it issued."""

    def __init__(self, directory: Path, common_name: str) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.certificate_file("ca").exists():
            key = ec.generate_private_key(ec.SECP256R1())
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
            certificate = (
                _builder(name, name, key.public_key())
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(_usage(ca=True), critical=True)
                .sign(key, hashes.SHA256())
            )
            self._write("ca", certificate, key)

    def certificate_file(self, name: str) -> Path:
        """Path of a certificate in PEM."""
        return self.directory / f"{name}.crt"

    def key_file(self, name: str) -> Path:
        """Path of its private key in PEM, readable by root only."""
        return self.directory / f"{name}.key"

    def issue(self, name: str, common_name: str, organization: str | None = None, hosts: Iterable[str] = ()) -> None:
        """Issue `<name>.crt` and `<name>.key` for a client and, with `hosts`, a server; keep what is there already."""
        if self.certificate_file(name).exists():
            return
        ca = x509.load_pem_x509_certificate(self.certificate_file("ca").read_bytes())
        ca_key = serialization.load_pem_private_key(self.key_file("ca").read_bytes(), password=None)
        if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{self.key_file('ca')}: not an elliptic-curve key → `slipway cluster down` and up again")
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if organization:
            attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(x509.Name(attributes), ca.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
        )
        if names := [_general_name(host) for host in hosts]:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        self._write(name, builder.sign(ca_key, hashes.SHA256()), key)

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        write_private_key(self.key_file(name), key)
        # The certificate comes last: where it stands, its key does too.
        paths.write_whole(self.certificate_file(name), certificate.public_bytes(serialization.Encoding.PEM))


def write_private_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a private key in PEM (PKCS #8), readable by its owner only from its first byte on."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths.write_whole(path, pem, mode=0o600)


def write_service_account_keys(directory: Path) -> None:
    """The key pair that signs and verifies service-account tokens: `service-account.key` and `.pub`."""
    public = directory / "service-account.pub"
    if public.exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    write_private_key(directory / "service-account.key", key)
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    paths.write_whole(public, pem)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + VALIDITY)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
