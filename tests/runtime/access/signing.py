"""Keys and tokens of an issuer, made with the package cryptography."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

HASHES: dict[str, Any] = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def encode_number(number: int) -> str:
    return encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


class Issuer:
    """An issuer of tokens with a key of each type."""

    def __init__(self, name: str = "one"):
        self.name = name
        self.secret = secrets.token_hex(32).encode()

    @cached_property
    def rsa(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(65537, 2048)

    @cached_property
    def elliptic(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP256R1())

    def key_set(self, *kinds: str, **more: Any) -> bytes:
        """The set with the keys of these types."""
        entries = [
            {"kty": kind, "kid": f"{self.name}-{kind}", **self._public_key(kind), **more}
            for kind in kinds or ("RSA", "EC")
        ]
        return json.dumps({"keys": entries}).encode()

    def _public_key(self, kind: str) -> dict[str, str]:
        if kind == "oct":
            return {"k": encode(self.secret)}
        if kind == "RSA":
            public = self.rsa.public_key().public_numbers()
            return {"n": encode_number(public.n), "e": encode_number(public.e)}
        point = self.elliptic.public_key().public_numbers()
        return {"crv": "P-256"} | {
            name: encode(number.to_bytes(32, "big"))
            for name, number in (("x", point.x), ("y", point.y))
        }

    def token(
        self, algorithm: str = "RS256", header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A token with these claims; by default it is valid for a minute."""
        kind = {"H": "oct", "E": "EC"}.get(algorithm[0], "RSA")
        claims.setdefault("exp", time.time() + 60)
        head = {"alg": algorithm, "kid": f"{self.name}-{kind}", **(header or {})}
        present = {name: value for name, value in claims.items() if value is not None}
        data = ".".join(encode(json.dumps(part).encode()) for part in (head, present))
        return f"{data}.{encode(self.sign(algorithm, data.encode()))}"

    def sign(self, algorithm: str, data: bytes) -> bytes:
        digest = HASHES.get(algorithm[2:], hashes.SHA256)()
        if algorithm[0] == "H":
            return hmac.digest(self.secret, data, getattr(hashlib, f"sha{algorithm[2:]}"))
        if algorithm[0] == "E":
            r, s = utils.decode_dss_signature(self.elliptic.sign(data, ec.ECDSA(digest)))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        if algorithm[0] == "P":
            salt = padding.PSS(padding.MGF1(digest), digest.digest_size)
            return self.rsa.sign(data, salt, digest)
        return self.rsa.sign(data, padding.PKCS1v15(), digest)
