"""An issuer of tokens: its configuration, and what it signs."""

from __future__ import annotations

import base64
import json
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
URL = "https://issuer.example.com"
AUDIENCE = "slipway-registry"
SUBJECT = "repo:acme/models:ref:refs/heads/main"


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _number(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def keys(private: rsa.RSAPrivateKey) -> str:
    """What an issuer tells of its key: a JSON Web Key Set."""
    numbers = private.public_key().public_numbers()
    key = {"kty": "RSA", "kid": "one", "alg": "RS256", "use": "sig", "n": _number(numbers.n), "e": _number(numbers.e)}
    return json.dumps({"keys": [key]})


ISSUER = {"issuer": URL, "audiences": [AUDIENCE], "subjects": ["repo:acme/models:*"], "jwks": keys(KEY)}


def token(key: rsa.RSAPrivateKey = KEY, **claims: object) -> str:
    """A token that the issuer's configuration lets in, but for what `claims` say."""
    header = {"alg": "RS256", "kid": "one", "typ": "JWT"}
    said = {"iss": URL, "sub": SUBJECT, "aud": AUDIENCE, "exp": int(time.time()) + 600, **claims}
    signed = ".".join(encoded(json.dumps(part).encode()) for part in (header, said))
    return f"{signed}.{encoded(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"
