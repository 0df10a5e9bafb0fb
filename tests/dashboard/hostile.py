"""Invalid and hostile requests, generated at random from the endpoints of the dashboard.

They change nothing: without a session they are refused; with one they name objects that do not
exist and cannot be created, or their bodies are invalid.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from urllib.parse import quote

from fnbuild.dashboard.app import ENDPOINTS
from fnbuild.dashboard.endpoints import Endpoint

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO", "get")
CHANGING = ("POST", "PUT", "PATCH", "DELETE")

WORDS: tuple[str, ...] = (
    "", " ", ".", "..", "../../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "%2e%2e%2f", "%00",
    "%", "-", "--help", "-1", "0", "1", "1e309", "9" * 400, "0x10", "1.5", "null", "true", "NaN",
    "[]", "{}", "A" * 300, "ä", "漢字", "\u202e", "😀", "\x7f", "a b", "a;b", "a&b=c", "a?b", "a#b",
    "$(id)", "`id`", "' OR 1=1 --", "<script>alert(1)</script>", "${jndi:ldap://x}", "{{7*7}}", "@",
    "a@local", "@kube", "library:..", "upload:../../x", "http://127.0.0.1:1/", "file:///etc/passwd",
    "12h30m", "-5s", "٣",
)  # fmt: skip
"""Text for every place that takes some."""

VALUES: tuple[object, ...] = (
    None, True, 0, -1, 1.5, 10**30, 1e308, [], {}, [[]], [None], {"": None}, {"a": {"b": []}},
    *WORDS,
)  # fmt: skip

BODIES: tuple[bytes, ...] = (
    b"", b"{", b"}", b"[]", b"null", b"5", b'"text"', b"\x00", b"\xff\xfe", b"{}" * 5000,
    b'{"a":' * 2000, b"[" * 50_000, b'{"a": NaN}', b'{"a": 1e999}', b'{"a": ' + b"9" * 5000 + b"}",
    b'{"a": "\\ud800"}', b'{"a": "\\u0000"}', b'\xef\xbb\xbf{"metadata": {}}', b"a: &a [*a, *a]\n",
    b"a: *b\n", b"- - - -\n", b"? [a, b]\n: c\n", b"a: !!python/object/apply:os.system [id]\n",
    b"%YAML 9.9\n---\n", b"\t- a\n", b"a: 1\na: 2\n", b"--- a\n--- b\n", b"metadata: [\n",
    b"x" * 100_000, b"PK\x03\x04" + b"\x00" * 60, b"\x1f\x8b\x08" + b"\x00" * 30,
    b"metadata:\n  name: 5\nspec: text\n",
    b"a: &a ['x','x','x']\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\nd: [*c,*c,*c]\n",
)  # fmt: skip

HEADERS: tuple[tuple[str, str], ...] = (
    ("Content-Type", "application/json; charset=utf-16"), ("Content-Type", "text/html"),
    ("Content-Type", "multipart/form-data"), ("Content-Type", "/"),
    ("Content-Type", "application/yaml"), ("Content-Encoding", "gzip"),
    ("Accept", "text/event-stream"), ("Accept-Encoding", "br"), ("Range", "bytes=5-1"),
    ("Range", "bytes=0-9999999999999"), ("If-None-Match", "*"), ("If-Modified-Since", "yesterday"),
    ("If-Range", "x"), ("Expect", "100-continue"), ("Expect", "tea"), ("Upgrade", "websocket"),
    ("Upgrade", "h2c"), ("Connection", "Upgrade, x"), ("Host", "evil.example"), ("Host", "[::"),
    ("Host", "localhost:99999999999"), ("Origin", "http://evil.example"), ("Origin", "null"),
    ("Origin", "http://["), ("Cookie", "session=j:{}"), ("Cookie", "session=j:" + "[" * 999),
    ("Cookie", "fnbuild_session=write.1.1"), ("Cookie", ";;=;=;"), ("Cookie", 'session="\\'),
    ("User-Agent", "CVAT/2.0"), ("X-Nuclio-Invoke-Via", "domain-name"),
    ("X-Forwarded-For", "1.1.1.1"), ("X-HTTP-Method-Override", "DELETE"), ("X-Long", "x" * 8000),
    ("X-Fnbuild-Platform", "nowhere"),
)  # fmt: skip

SPECS = ("handler", "runtime", "triggers", "resources", "env", "build", "minReplicas", "volumes")

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_NAMES = [value for value in VALUES if not (isinstance(value, str) and _NAME.fullmatch(value))]
"""Nothing can be called any of these."""


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def wire(self) -> bytes:
        """Return the bytes of a request as a client sends them, for a separate connection."""
        present = {name.lower() for name, _ in self.headers}
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if "host" not in present:
            lines.append("Host: localhost")
        if self.body or self.method in CHANGING:
            lines.append(f"Content-Length: {len(self.body)}")
        lines.append("Connection: close")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


class Hostile:
    """An endless supply of requests for an existing function."""

    def __init__(self, seed: int, function: str):
        self._dice = random.Random(seed)
        self._function = function

    def request(self, session: str = "") -> Request:
        """Return one request; `session` is the cookie of a client with the write role."""
        dice = self._dice
        endpoint = dice.choice(ENDPOINTS)
        method = endpoint.method if dice.random() < 0.6 else dice.choice(METHODS)
        safe = not session or method not in CHANGING
        headers = [*self._described(endpoint, "header", safe=safe)]
        headers += dice.sample(HEADERS, dice.choice((0, 0, 0, 1, 1, 2)))
        if session:
            headers.append(("Cookie", session))
        elif dice.random() < 0.02:
            headers.append(("Authorization", dice.choice(("Bearer x", "Basic x", "Basic eDp5"))))
        return Request(
            method, self._target(endpoint, safe=safe), _once(headers), self._body(endpoint, session)
        )

    def _target(self, endpoint: Endpoint, *, safe: bool) -> str:
        dice = self._dice
        path = re.sub(r"\{\w+(:\w+)?\}", lambda _: self._segment(safe=safe), endpoint.path)
        chance = dice.random()
        if chance < 0.04:
            path = "/static/" + self._segment(safe=True)
        elif chance < 0.08:
            path = "/" + "/".join(self._segment(safe=False) for _ in range(dice.randint(0, 4)))
        elif chance < 0.12:
            path += dice.choice(("/", "//", "/.", "/..", "/" + self._segment(safe=False), "%2f"))
        parameters = self._described(endpoint, "query", safe=True)
        parameters += [(dice.choice(WORDS), dice.choice(WORDS))] if dice.random() < 0.1 else []
        query = "&".join(f"{quote(name)}={quote(value)}" for name, value in parameters)
        return f"{path}?{query}" if query else path

    def _segment(self, *, safe: bool) -> str:
        if safe and self._dice.random() < 0.3:
            return self._function
        word = self._dice.choice(
            WORDS if safe else [name for name in _NAMES if isinstance(name, str)]
        )
        return quote(word, safe="" if self._dice.random() < 0.7 else "/.%")

    def _described(self, endpoint: Endpoint, place: str, *, safe: bool) -> list[tuple[str, str]]:
        """Return some of the endpoint's parameters with values that it does not accept."""
        dice = self._dice
        names = [
            name.removeprefix("?")
            for name in endpoint.parameters
            if name.startswith("?") == (place == "query") and dice.random() < 0.4
        ]
        results = []
        for name in names:
            use_existing = safe and name.lower() == "x-nuclio-function-name" and dice.random() < 0.7
            value = self._function if use_existing else dice.choice(WORDS)
            if place == "header":
                value = re.sub(r"[^\t\x20-\x7e\x80-\xff]", "", value).strip()
            results.append((name, value))
        return results

    def _body(self, endpoint: Endpoint, session: str) -> bytes:
        dice = self._dice
        chance = dice.random()
        if not session and chance < 0.2:
            return self._serious()
        if chance < 0.35:
            return dice.choice(BODIES)
        if chance < 0.5:
            return b""
        content: dict[str, object] = {dice.choice(WORDS): dice.choice(VALUES) for _ in range(2)}
        content["metadata"] = dice.choice((dice.choice(VALUES), self._metadata(), self._metadata()))
        content["spec"] = dice.choice((dice.choice(VALUES), self._spec(), self._spec()))
        if dice.random() < 0.3:
            content = {
                name: dice.choice(VALUES)
                for name in ("token", "desiredState", "revision", "template", "values", "meta")
            }
            content["token"] = "x" if "session" not in endpoint.path else None
        if dice.random() < 0.1:
            return json.dumps(content).encode()[: dice.randint(1, 40)]
        return json.dumps(content).encode()

    def _serious(self) -> bytes:
        """Return a request that would change something with the write role."""
        dice = self._dice
        name = dice.choice((self._function, "another"))
        labels = {"nuclio.io/function-name": self._function}
        spec = {"image": "python:3.11", "build": {"codeEntryType": "image"}}
        content = {
            "metadata": {"name": name, "namespace": "nuclio", "labels": labels},
            "spec": dice.choice((spec, {}, {"description": "changed"})),
            "desiredState": dice.choice(("scaledToZero", "ready")),
            "revision": dice.choice((1, None)),
        }
        return json.dumps(content).encode()

    def _metadata(self) -> dict[str, object]:
        dice = self._dice
        return {
            "name": dice.choice(_NAMES),
            "namespace": dice.choice((*VALUES, "nuclio")),
            "labels": dice.choice(VALUES),
            "annotations": dice.choice(VALUES),
        }

    def _spec(self) -> dict[str, object]:
        return {name: self._dice.choice(VALUES) for name in self._dice.sample(SPECS, 4)}


def _once(headers: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return each header once; duplicate hosts belong to the malformed requests."""
    return tuple({name.lower(): (name, value) for name, value in headers}.values())
