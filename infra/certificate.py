"""A serving certificate made once and kept in the stack's state, its key encrypted there.

What the API server calls inside the cluster (webhooks, aggregated APIs) must show a certificate that the
calling object names. One authority for each, made with it and then forgotten, needs no cert-manager.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pulumi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pulumi import dynamic

USES = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
"""KEDA's two halves show each other the same certificate, each as server and as client."""

VALID_DAYS = 3650
"""Ten years: it is made anew with the stack, and nothing here would renew it in time otherwise."""


def issue(hosts: list[str]) -> dict[str, str]:
    """A certificate for the hosts and its key, and the authority that signed it, as PEM: `certificate`, `key`, `ca`."""
    now = dt.datetime.now(dt.UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"slipway {hosts[0]}")])

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            # Clocks of machines differ by minutes.
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
        )

    authority = (
        builder(authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    served = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])]), key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        .add_extension(x509.ExtendedKeyUsage(USES), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return {
        "certificate": served.public_bytes(pem).decode(),
        "ca": authority.public_bytes(pem).decode(),
        "key": key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode(),
    }


class ServingCertificateProvider(dynamic.ResourceProvider):
    """Issues at creation and never again."""

    # The provider's code holds no secret; encrypting it would differ at each update and show as a change.
    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        """Makes keys from the operating system's generator."""
        hosts = list(props["hosts"])
        return dynamic.CreateResult(id_=hosts[0], outs={"hosts": hosts, **issue(hosts)})

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> dynamic.DiffResult:
        """Other hosts need another certificate."""
        changed = list(olds["hosts"]) != list(news["hosts"])
        return dynamic.DiffResult(changes=changed, replaces=["hosts"] if changed else [])


class ServingCertificate(dynamic.Resource, module="slipway", name="ServingCertificate"):
    """Certificate, key and authority for the hosts, as PEM."""

    certificate: pulumi.Output[str]
    key: pulumi.Output[str]
    ca: pulumi.Output[str]

    def __init__(self, name: str, hosts: list[str], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            ServingCertificateProvider(),
            name,
            {"hosts": hosts, "certificate": None, "key": None, "ca": None},
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=["key"])),
        )
