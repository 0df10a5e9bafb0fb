"""JSON Web Tokens: claims, attacks on the algorithm, and sets of keys that change."""

from __future__ import annotations

import http.server
import json
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joserfc.jwk
import joserfc.jwt
import pytest

from fnbuild.runtime.access import key_sets
from fnbuild.runtime.access.key_sets import (
    FileKeySet,
    KeySet,
    KeySetError,
    parse_key_set,
    secret_key_set,
    url_key_set,
)
from fnbuild.runtime.access.signatures import ALGORITHMS
from fnbuild.runtime.access.web_tokens import (
    MissingClaimError,
    TokenError,
    TokenRules,
    verify_token,
)
from tests.runtime.access.signing import Issuer, encode

ISSUER = Issuer()
OTHER = Issuer("other")
FORGER = Issuer()


def keys_of(data: bytes) -> KeySet:
    return KeySet(lambda: parse_key_set(data, symmetric=True), "a test")


KEYS = keys_of(ISSUER.key_set("RSA", "EC", "oct"))


def refusal(token: str, keys: KeySet = KEYS, **rules: Any) -> str:
    with pytest.raises(TokenError) as info:
        verify_token(token, keys, TokenRules(**rules))
    return str(info.value)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_tokens_of_every_algorithm(algorithm: str) -> None:
    token = verify_token(ISSUER.token(algorithm, sub="cvat"), KEYS, TokenRules())
    assert token.claims["sub"] == "cvat"
    assert "signature" in refusal(FORGER.token(algorithm))


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "HS256"])
def test_tokens_of_another_library(algorithm: str) -> None:
    kind = {"H": "oct", "E": "EC"}.get(algorithm[0], "RSA")
    size: Any = {"RSA": 2048, "EC": "P-256", "oct": 256}[kind]
    key = joserfc.jwk.JWKRegistry.generate_key(kind, size, private=True)
    data = json.dumps({"keys": [key.as_dict(private=kind == "oct")]}).encode()
    claims = {"exp": int(time.time()) + 60, "sub": "cvat"}
    token = joserfc.jwt.encode({"alg": algorithm}, claims, key, algorithms=[algorithm])
    assert verify_token(token, keys_of(data), TokenRules()).claims == claims


def test_times_have_a_leeway() -> None:
    now = time.time()
    for claims in ({"exp": now - 20}, {"nbf": now + 20}, {"iat": now + 20}):
        verify_token(ISSUER.token(**claims), KEYS, TokenRules())
        assert refusal(ISSUER.token(**claims), leeway=0.0)
    assert "expired" in refusal(ISSUER.token(exp=now - 40))
    assert "yet" in refusal(ISSUER.token(nbf=now + 40))
    assert "exp" in refusal(ISSUER.token(exp=None))


@pytest.mark.parametrize("moment", ["soon", True, [1], math.inf, math.nan, 1e300])
def test_times_are_numbers(moment: object) -> None:
    assert "not a time" in refusal(ISSUER.token(exp=moment))


def test_issuer_and_audience() -> None:
    token = ISSUER.token(iss="https://issuer", aud=["cvat", "ci"])
    verify_token(token, KEYS, TokenRules("https://issuer", ["ci"]))
    assert "issuer" in refusal(token, issuer="https://other", audience=["ci"])
    assert "audience" in refusal(token, audience=["x"])
    # A token for others must be refused although no audience is configured.
    assert "audience" in refusal(token)
    assert "audience" in refusal(ISSUER.token(), audience=["ci"])
    assert "audience" in refusal(ISSUER.token(aud=[None]), audience=["None"])


@pytest.mark.parametrize(
    "claims",
    [{"scope": "read predict"}, {"scope": ["predict"]}, {"scope": "predict"}],
)
def test_required_claims(claims: dict[str, Any]) -> None:
    verify_token(ISSUER.token(**claims), KEYS, TokenRules(claims=(("scope", "predict"),)))


@pytest.mark.parametrize("scope", [None, "predictor", ["x"], {"predict": 1}, 7, [["predict"]]])
def test_a_missing_claim_is_not_sufficient(scope: object) -> None:
    with pytest.raises(MissingClaimError):
        verify_token(ISSUER.token(scope=scope), KEYS, TokenRules(claims=(("scope", "predict"),)))


def test_a_public_key_is_no_secret_of_an_hmac() -> None:
    public = ISSUER.rsa.public_key()
    for secret in (
        ISSUER.key_set("RSA"),
        json.loads(ISSUER.key_set("RSA"))["keys"][0]["n"].encode(),
        str(public.public_numbers().n).encode(),
    ):
        forger = Issuer()
        forger.secret = secret
        token = forger.token("HS256", {"kid": "one-RSA"})
        assert "signature" in refusal(token, keys_of(ISSUER.key_set("RSA")))


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", None, 1, ["RS256"], "RS1", "HS1024"])
def test_unknown_algorithms_are_refused(name: Any) -> None:
    parts = ISSUER.token().split(".")
    head = encode(json.dumps({"alg": name, "kid": "one-RSA"}).encode())
    for signature in ("", parts[2]):
        assert "algorithm" in refusal(f"{head}.{parts[1]}.{signature}")


def test_only_configured_algorithms() -> None:
    assert "algorithm" in refusal(ISSUER.token("PS256"), algorithms=["RS256"])


def test_a_key_that_names_its_algorithm_or_another_use() -> None:
    keys = keys_of(ISSUER.key_set("RSA", alg="RS256"))
    verify_token(ISSUER.token("RS256"), keys, TokenRules())
    assert "signature" in refusal(ISSUER.token("PS256"), keys)
    for more in ({"use": "enc"}, {"key_ops": ["encrypt"]}):
        with pytest.raises(KeySetError):
            parse_key_set(ISSUER.key_set("RSA", **more), symmetric=True)


def test_critical_extensions_are_refused() -> None:
    assert "extensions" in refusal(ISSUER.token(header={"crit": ["b64"], "b64": False}))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b",
        "..",
        "a.b.c",
        "e30.e30.",
        "bnVsbA.bnVsbA.AA",
        "W10.W10.AA",
        "e30.e30.A",
        "é.e30.AA",
    ],
)
def test_other_texts_are_no_tokens(token: str) -> None:
    refusal(token)
    refusal(token + "." + "a" * 20000)
    refusal("[" * 8000 + "." + token)


def test_padding_and_other_characters_are_refused() -> None:
    token = ISSUER.token()
    for wrong in (token + "=", token + "\n", token.replace(".", "+.", 1), " " + token):
        refusal(wrong)


def test_a_secret() -> None:
    keys = secret_key_set(ISSUER.secret.decode())
    verify_token(ISSUER.token("HS256"), keys, TokenRules())
    assert "signature" in refusal(OTHER.token("HS256"), keys)


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = FileKeySet(str(path))
    with pytest.raises(KeySetError, match="No such file"):
        keys.find("")
    path.write_bytes(ISSUER.key_set())
    verify_token(ISSUER.token(), keys, TokenRules())
    path.write_bytes(OTHER.key_set())
    verify_token(OTHER.token(), keys, TokenRules())
    assert "signature" in refusal(ISSUER.token(), keys)


class _Publisher(http.server.BaseHTTPRequestHandler):
    answers: dict[str, Any]

    def do_GET(self) -> None:
        self.answers["requests"] = self.answers.get("requests", 0) + 1
        self.send_response(self.answers.get("status", 200))
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(self.answers["body"])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def published() -> Iterator[dict[str, Any]]:
    """The answers of a server, and its URL."""
    answers: dict[str, Any] = {"body": ISSUER.key_set()}
    handler = type("Handler", (_Publisher,), {"answers": answers})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answers["url"] = f"http://127.0.0.1:{server.server_port}/keys"
        yield answers
        server.shutdown()


def test_a_url_is_read_once_and_again_for_a_new_key(
    published: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = url_key_set(published["url"])
    for _ in range(3):
        verify_token(ISSUER.token(), keys, TokenRules())
    assert published["requests"] == 1
    published["body"] = OTHER.key_set()
    # Not at once: tokens with invented keys must not make the server busy.
    assert "signature" in refusal(OTHER.token(), keys)
    assert published["requests"] == 1
    monkeypatch.setattr(key_sets, "_PAUSE", 0.0)
    verify_token(OTHER.token(), keys, TokenRules())
    assert "signature" in refusal(ISSUER.token(), keys)
    # The known keys serve while the server has none.
    published["status"] = 500
    assert "signature" in refusal(ISSUER.token(), keys)
    verify_token(OTHER.token(), keys, TokenRules())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": 404}, "status 404"),
        ({"status": 302}, "status 302"),
        ({"body": b"<html>"}, "no key set"),
        ({"body": b"[" * 100000}, "no key set"),
        ({"body": b'{"keys": []}'}, "no usable key"),
        ({"body": ISSUER.key_set("oct")}, "no usable key"),
        ({"body": b"x" * (2 << 20)}, "more than 1048576 bytes"),
    ],
)
def test_other_answers_are_no_key_sets(
    published: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    published.update(change)
    with pytest.raises(KeySetError, match=reason):
        url_key_set(published["url"] + "?secret=1").find("")


def test_an_address_that_does_not_answer() -> None:
    with pytest.raises(KeySetError, match="refused"):
        url_key_set("http://127.0.0.1:1/keys").find("")
