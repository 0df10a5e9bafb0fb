"""Signatures of the package cryptography, and wrong ones."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from fnbuild.runtime.access import passwords
from fnbuild.runtime.access.key_sets import parse_key_set
from fnbuild.runtime.access.signatures import (
    ALGORITHMS,
    EllipticKey,
    PublicKey,
    RsaKey,
    SymmetricKey,
    check_key,
    verify,
)
from tests.runtime.access.signing import HASHES, Issuer

ISSUER = Issuer()
KEYS: dict[type, PublicKey] = {
    type(entry.key): entry.key
    for entry in parse_key_set(ISSUER.key_set("RSA", "EC", "oct"), symmetric=True)
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signature_is_valid_for_its_data_key_and_algorithm_only(algorithm: str) -> None:
    key = KEYS[ALGORITHMS[algorithm].key_type]
    signature = ISSUER.sign(algorithm, b"data")
    assert verify(algorithm, key, b"data", signature)
    assert not verify(algorithm, key, b"Data", signature)
    changed = bytes([signature[0] ^ 1]) + signature[1:]
    for wrong in (changed, signature[:-1], signature + b"\0", b"", b"\0" * len(signature)):
        assert not verify(algorithm, key, b"data", wrong)
    for other in ALGORITHMS:
        if other != algorithm:
            assert not verify(other, key, b"data", signature), other


@settings(max_examples=25, deadline=None)
@given(data=st.binary(max_size=80), bit=st.integers(0, 511))
def test_p256_agrees_with_openssl(data: bytes, bit: int) -> None:
    signature = ISSUER.sign("ES256", data)
    assert verify("ES256", KEYS[EllipticKey], data, signature)
    number = int.from_bytes(signature, "big") ^ 1 << bit
    assert not verify("ES256", KEYS[EllipticKey], data, number.to_bytes(64, "big"))


def test_special_numbers_of_p256_are_refused() -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    signature = ISSUER.sign("ES256", b"data")
    r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:]))
    for pair in ((0, s), (r, 0), (order, s), (r, order), (0, 0), (r + order, s)):
        wrong = b"".join((number % 2**256).to_bytes(32, "big") for number in pair)
        assert not verify("ES256", KEYS[EllipticKey], b"data", wrong)


@pytest.mark.parametrize("bits", [2048, 2049])
def test_pss_with_other_sizes_of_keys_and_salts(bits: int) -> None:
    private = rsa.generate_private_key(65537, bits)
    numbers = private.public_key().public_numbers()
    key = RsaKey(numbers.n, numbers.e)
    for name, digest in HASHES.items():
        for salt in (0, digest().digest_size, digest().digest_size + 1):
            scheme = padding.PSS(padding.MGF1(digest()), salt)
            signature = private.sign(b"data", scheme, digest())
            fits = salt == digest().digest_size
            assert verify(f"PS{name}", key, b"data", signature) is fits


def test_unsafe_keys_are_named() -> None:
    number = KEYS[RsaKey].modulus  # type: ignore[union-attr]
    assert check_key(RsaKey(number, 65537)) is None
    assert "1024 bits" in str(check_key(RsaKey(1 << 1023 | 1, 65537)))
    assert check_key(RsaKey(number, 1)) is not None
    assert check_key(RsaKey(number - 1, 65537)) is not None
    assert check_key(EllipticKey(1, 2)) is not None
    assert check_key(SymmetricKey(b"short")) is not None
    assert check_key(SymmetricKey(os.urandom(32))) is None


def test_a_hash_is_of_one_password() -> None:
    stored = passwords.hash_password("pässword")
    assert "ssword" not in stored
    assert passwords.verify_password("pässword", stored)
    assert not passwords.verify_password("password", stored)
    assert stored != passwords.hash_password("pässword")


@pytest.mark.parametrize(
    "text", ["", "plain", "pbkdf2-sha256$1$AA==$AA==", "pbkdf2-sha256$x$AA==$AA==", "scrypt$1$a$b"]
)
def test_other_texts_are_no_hashes(text: str) -> None:
    with pytest.raises(passwords.PasswordHashError):
        passwords.check_hash(text)
