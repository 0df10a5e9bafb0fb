"""Cross-origin resource sharing: the web pages that may call the function from a browser.

This is the attribute `cors` of an http trigger, with Nuclio's defaults and statuses
(pkg/processor/trigger/http/cors/cors.go). Deliberate differences: a request without Origin does not
come from a web page and is served; a request from another origin gets 403 with the reason, where
Nuclio sends an empty 200; names in Access-Control-Request-Headers may have any spacing; and
Access-Control-Allow-Credentials is on replies too, where browsers expect it.
"""

from typing import Any, Dict, FrozenSet, List, Optional, Tuple

from ..config import ConfigFileError
from ..http.messages import HttpRequest, Reply

Headers = List[Tuple[str, str]]

_METHODS = ("HEAD", "GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
_HEADERS = ("Accept", "Content-Length", "Content-Type", "Authorization", "X-Nuclio-Log-Level")
_MAX_AGE = 5


class CorsPolicy:
    """The policy of a trigger. `attributes` is the value of the attribute `cors`."""

    def __init__(self, attributes: Dict[str, Any]) -> None:
        # In Nuclio the names of attributes are case-insensitive.
        values = {key.lower(): value for key, value in attributes.items()}
        self._origins = _strings(values, "allowOrigins", ("*",))
        methods = _strings(values, "allowMethods", _METHODS)
        headers = _strings(values, "allowHeaders", _HEADERS)
        self._methods: FrozenSet[str] = frozenset(methods)
        self._headers: FrozenSet[str] = frozenset(name.lower() for name in headers)
        credentials = _typed_value(values, "allowCredentials", bool, False)
        self._common: Headers = (
            [("Access-Control-Allow-Credentials", "true")] if credentials else []
        )
        exposed = _strings(values, "exposeHeaders", ())
        self._on_replies: Headers = [("Vary", "Origin"), *self._common]
        if exposed:
            self._on_replies.append(("Access-Control-Expose-Headers", ", ".join(exposed)))
        self._on_preflights: Headers = [
            ("Vary", "Origin"),
            ("Vary", "Access-Control-Request-Method"),
            ("Vary", "Access-Control-Request-Headers"),
            ("Access-Control-Allow-Methods", ", ".join(methods)),
            ("Access-Control-Allow-Headers", ", ".join(headers)),
            (
                "Access-Control-Max-Age",
                "%d" % _typed_value(values, "preflightMaxAgeSeconds", int, _MAX_AGE),
            ),
            *self._common,
        ]

    def check(self, request: HttpRequest) -> Optional[Reply]:
        """Return the reply to a preflight or a refused request; None if the request is served."""
        origin = request.header("origin")
        method = request.header("access-control-request-method")
        if request.method == "OPTIONS" and method is not None:
            return self._preflight(request, origin, method)
        if origin is None or self._allows(origin):
            return None
        return _refusal(403, "the origin %s is not in allowOrigins" % origin)

    def headers(self, request: HttpRequest, reply: Headers) -> Headers:
        """Return the headers to add to a reply; headers of the handler take precedence."""
        origin = request.header("origin")
        if origin is None:
            return [("Vary", "Origin")]
        own = {name.lower() for name, _ in reply}
        added = [("Access-Control-Allow-Origin", origin), *self._on_replies]
        return [pair for pair in added if pair[0] == "Vary" or pair[0].lower() not in own]

    def _preflight(self, request: HttpRequest, origin: Optional[str], method: str) -> Reply:
        if origin is None:
            return _refusal(400, "a preflight request must have the header Origin")
        if not self._allows(origin):
            return _refusal(400, "the origin %s is not in allowOrigins" % origin)
        if method not in self._methods:
            return _refusal(400, "the method %s is not in allowMethods" % method)
        names = request.header("access-control-request-headers") or ""
        for name in names.split(","):
            if name.strip() and name.strip().lower() not in self._headers:
                return _refusal(400, "the header %s is not in allowHeaders" % name.strip())
        return Reply(200, [("Access-Control-Allow-Origin", origin), *self._on_preflights])

    def _allows(self, origin: str) -> bool:
        return "*" in self._origins or origin in self._origins


def cors_policy(attributes: Dict[str, Any]) -> Optional[CorsPolicy]:
    """Return the policy in a trigger's attributes, if enabled; raise ConfigFileError if invalid."""
    values = attributes.get("cors")
    if values is None:
        return None
    if not isinstance(values, dict):
        raise ConfigFileError("cors: %r is not an object" % (values,))
    enabled = _typed_value({key.lower(): v for key, v in values.items()}, "enabled", bool, False)
    return CorsPolicy(values) if enabled else None


def _refusal(status: int, reason: str) -> Reply:
    return Reply.json(status, {"error": "cors: " + reason}, [("Vary", "Origin")])


def _typed_value(values: Dict[str, Any], name: str, kind: type, default: Any) -> Any:
    value = values.get(name.lower())
    if value is None:
        return default
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        raise ConfigFileError("cors.%s: %r is not a %s" % (name, value, kind.__name__))
    return value


def _strings(values: Dict[str, Any], name: str, default: Tuple[str, ...]) -> Tuple[str, ...]:
    value = values.get(name.lower())
    if value is None or value == []:
        return default
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list) or not all(isinstance(item, str) for item in strings):
        raise ConfigFileError("cors.%s: %r is not a list of strings" % (name, value))
    return tuple(strings)
