"""Verification of the signatures of JSON Web Tokens (RFC 7518): HMAC, RSA and ECDSA on P-256.

Only public keys are used, so the time that a verification takes tells nothing. HMAC is compared in
constant time.
"""

import hashlib
import hmac
from typing import Any, Dict, NamedTuple, Optional, Tuple, Union

# Prefixes of the DigestInfo of PKCS #1 (RFC 8017, 9.2).
_DIGEST_INFO = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 8192
_MAX_EXPONENT = 1 << 33


class SymmetricKey(NamedTuple):
    """A secret that signs and verifies."""

    secret: bytes


class RsaKey(NamedTuple):
    """A public RSA key."""

    modulus: int
    exponent: int


class EllipticKey(NamedTuple):
    """A point on the curve P-256."""

    x: int
    y: int


PublicKey = Union[SymmetricKey, RsaKey, EllipticKey]


class Algorithm(NamedTuple):
    """A signature algorithm: the type of its keys, its hash, and the kind of its padding."""

    key_type: Any
    digest: str
    padding: str = ""


ALGORITHMS: Dict[str, Algorithm] = {
    "HS256": Algorithm(SymmetricKey, "sha256"),
    "HS384": Algorithm(SymmetricKey, "sha384"),
    "HS512": Algorithm(SymmetricKey, "sha512"),
    "RS256": Algorithm(RsaKey, "sha256", "pkcs1"),
    "RS384": Algorithm(RsaKey, "sha384", "pkcs1"),
    "RS512": Algorithm(RsaKey, "sha512", "pkcs1"),
    "PS256": Algorithm(RsaKey, "sha256", "pss"),
    "PS384": Algorithm(RsaKey, "sha384", "pss"),
    "PS512": Algorithm(RsaKey, "sha512", "pss"),
    "ES256": Algorithm(EllipticKey, "sha256"),
}


def check_key(key: PublicKey) -> Optional[str]:
    """Return the reason why a key is not safe to use, if any."""
    if isinstance(key, SymmetricKey):
        # RFC 7518, 3.2: at least as long as the hash.
        return "its secret has less than 32 bytes" if len(key.secret) < 32 else None
    if isinstance(key, RsaKey):
        bits = key.modulus.bit_length()
        if not _MIN_RSA_BITS <= bits <= _MAX_RSA_BITS:
            return "it has %d bits, not %d to %d" % (bits, _MIN_RSA_BITS, _MAX_RSA_BITS)
        if not 3 <= key.exponent < _MAX_EXPONENT or not key.exponent & key.modulus & 1:
            return "its modulus or its exponent is not that of an RSA key"
        return None
    return None if _is_on_curve(key.x, key.y) else "its point is not on the curve P-256"


def verify(name: str, key: PublicKey, data: bytes, signature: bytes) -> bool:
    """Return True if the signature of `data` is valid; the key's type must be the algorithm's."""
    algorithm = ALGORITHMS[name]
    if not isinstance(key, algorithm.key_type):
        return False
    if isinstance(key, SymmetricKey):
        expected = hmac.new(key.secret, data, algorithm.digest).digest()
        return hmac.compare_digest(expected, signature)
    digest = hashlib.new(algorithm.digest, data).digest()
    if isinstance(key, RsaKey):
        return _verify_rsa(key, algorithm, digest, signature)
    return _verify_p256(key, digest, signature)


def _verify_rsa(key: RsaKey, algorithm: Algorithm, digest: bytes, signature: bytes) -> bool:
    size = (key.modulus.bit_length() + 7) // 8
    number = int.from_bytes(signature, "big")
    if len(signature) != size or number >= key.modulus:
        return False
    message = pow(number, key.exponent, key.modulus)
    if algorithm.padding == "pss":
        bits = key.modulus.bit_length() - 1
        return _is_pss(message, bits, algorithm.digest, digest)
    info = _DIGEST_INFO[algorithm.digest] + digest
    # The whole padding is compared: a verifier that parses it can be made to skip a part.
    expected = b"\0\1" + b"\xff" * (size - len(info) - 3) + b"\0" + info
    return message.to_bytes(size, "big") == expected


def _is_pss(message: int, bits: int, name: str, digest: bytes) -> bool:
    """Check the encoding of RFC 8017, 9.1.2, with a salt as long as the hash (RFC 7518, 3.5)."""
    size, length = (bits + 7) // 8, len(digest)
    if message.bit_length() > bits or size < 2 * length + 2:
        return False
    encoded = message.to_bytes(size, "big")
    masked, inner = encoded[: size - length - 1], encoded[size - length - 1 : -1]
    block = int.from_bytes(masked, "big") ^ int.from_bytes(_mask(inner, len(masked), name), "big")
    block &= (1 << (bits - 8 * (length + 1))) - 1
    content = block.to_bytes(len(masked), "big")
    padding, salt = content[:-length], content[-length:]
    if encoded[-1] != 0xBC or padding != b"\0" * (len(padding) - 1) + b"\1":
        return False
    return hashlib.new(name, b"\0" * 8 + digest + salt).digest() == inner


def _mask(seed: bytes, size: int, name: str) -> bytes:
    """Return the mask of RFC 8017, B.2.1."""
    parts = [
        hashlib.new(name, seed + counter.to_bytes(4, "big")).digest()
        for counter in range(-(-size // hashlib.new(name).digest_size))
    ]
    return b"".join(parts)[:size]


# The curve P-256 (SEC 2, 2.4.2): y² = x³ - 3x + B modulo P, with the base point G of order N.
_P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
# A point in Jacobian coordinates; z is 0 for the point at infinity.
_Point = Tuple[int, int, int]
_INFINITY: _Point = (1, 1, 0)


def _is_on_curve(x: int, y: int) -> bool:
    in_range = 0 <= x < _P and 0 <= y < _P
    return in_range and (y * y - x * x * x + 3 * x - _B) % _P == 0


def _verify_p256(key: EllipticKey, digest: bytes, signature: bytes) -> bool:
    if len(signature) != 64:
        return False
    r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:]))
    if not (0 < r < _N and 0 < s < _N):
        return False
    # Modular inverses by Fermat: `pow` has none before Python 3.8.
    inverse = pow(s, _N - 2, _N)
    first = int.from_bytes(digest, "big") * inverse % _N
    x, _, z = _sum_of_products(first, _G, r * inverse % _N, (key.x, key.y))
    if z == 0:
        return False
    return x * pow(z * z % _P, _P - 2, _P) % _P % _N == r


def _sum_of_products(a: int, p: Tuple[int, int], b: int, q: Tuple[int, int]) -> _Point:
    """Return a·P + b·Q with one chain of doublings, two bits of both factors at a time."""
    table = _small_sums((p[0], p[1], 1), (q[0], q[1], 1))
    result = _INFINITY
    for shift in range(254, -1, -2):
        result = _double(_double(result))
        index = (a >> shift & 3) << 2 | (b >> shift & 3)
        if index:
            result = _add(result, table[index])
    return result


def _small_sums(p: _Point, q: _Point) -> Tuple[_Point, ...]:
    """Return i·P + j·Q for i and j from 0 to 3, at the index 4i + j."""
    multiples = []
    for point in (p, q):
        twice = _double(point)
        multiples.append((_INFINITY, point, twice, _add(twice, point)))
    return tuple(_add(first, second) for first in multiples[0] for second in multiples[1])


def _double(point: _Point) -> _Point:
    x, y, z = point
    if z == 0 or y == 0:
        return _INFINITY
    delta, gamma = z * z % _P, y * y % _P
    beta = x * gamma % _P
    alpha = 3 * (x - delta) * (x + delta) % _P
    new_x = (alpha * alpha - 8 * beta) % _P
    new_y = (alpha * (4 * beta - new_x) - 8 * gamma * gamma) % _P
    return new_x, new_y, 2 * y * z % _P


def _add(first: _Point, second: _Point) -> _Point:
    x1, y1, z1 = first
    x2, y2, z2 = second
    if z1 == 0:
        return second
    if z2 == 0:
        return first
    square1, square2 = z1 * z1 % _P, z2 * z2 % _P
    u1, u2 = x1 * square2 % _P, x2 * square1 % _P
    s1, s2 = y1 * square2 * z2 % _P, y2 * square1 * z1 % _P
    if u1 == u2:
        return _double(first) if s1 == s2 else _INFINITY
    h, r = u2 - u1, s2 - s1
    h2 = h * h % _P
    h3, v = h * h2 % _P, u1 * h2 % _P
    x = (r * r - h3 - 2 * v) % _P
    return x, (r * (v - x) - s1 * h3) % _P, h * z1 * z2 % _P
