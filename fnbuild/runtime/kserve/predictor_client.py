"""The call of a predictor by its transformer, over V1 or V2."""

import http.client
import json
from contextlib import suppress
from typing import Any, Dict, Mapping, Tuple, Union
from urllib.parse import urlsplit

# Headers of a request that its predictor gets, too.
FORWARDED_HEADERS = ("x-request-id", "x-b3-traceid", "authorization")

_PATHS = {
    ("v1", "predict"): "/v1/models/%s:predict",
    ("v1", "explain"): "/v1/models/%s:explain",
    ("v2", "predict"): "/v2/models/%s/infer",
    ("v2", "explain"): "/v2/models/%s/explain",
}
_MAX_TEXT = 1000


class PredictorError(Exception):
    """The predictor failed; `status_code` is that of its answer, 503 or 504 without one."""

    def __init__(self, status_code: int, reason: str) -> None:
        super().__init__(reason)
        self.status_code = status_code
        self.reason = reason


class PredictorClient:
    """A connection to the predictor at `host`, which may have a port; `timeout` is in seconds."""

    def __init__(self, host: str, use_ssl: bool = False, timeout: float = 600.0) -> None:
        scheme, _, address = host.rpartition("://")
        try:
            parts = urlsplit("//" + address)
            name, port = parts.hostname, parts.port
        except ValueError:
            name = port = None
        if not name or parts.query or scheme not in ("", "http", "https"):
            raise ValueError("predictor_host: %r is not a host with or without a port" % host)
        secure = use_ssl or scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = kind(name, port, timeout=timeout)
        self._prefix = parts.path.rstrip("/")
        self.url = "%s://%s%s" % ("https" if secure else "http", parts.netloc, self._prefix)

    def call(
        self, protocol: str, verb: str, model: str, payload: Any, headers: Mapping[str, str]
    ) -> Any:
        """Send the payload to the predictor's model; return the parsed answer.

        `headers` are those of the transformer's request, with names in lower case. Raises
        PredictorError.
        """
        fields = {"Content-Type": "application/json"}
        fields.update({name: headers[name] for name in FORWARDED_HEADERS if headers.get(name)})
        body = json.dumps(payload, default=_encode_array).encode("utf-8")
        path = self._prefix + _PATHS[protocol, verb] % model
        try:
            status, answer = self._exchange(path, body, fields)
        except OSError as problem:
            # TimeoutError is an alias from Python 3.10 on only.
            timed_out = isinstance(problem, TimeoutError) or "timed out" in str(problem)
            raise PredictorError(
                504 if timed_out else 503,
                "the predictor %s does not answer: %s" % (self.url, problem or type(problem)),
            ) from None
        if not 200 <= status < 300:
            raise PredictorError(
                status, error_text(answer) or http.client.responses.get(status, "")
            )
        try:
            return json.loads(answer.decode("utf-8"))
        except ValueError as problem:
            raise PredictorError(
                502, "the answer of the predictor %s is not JSON: %s" % (self.url, problem)
            ) from None

    def _exchange(self, path: str, body: bytes, headers: Dict[str, str]) -> Tuple[int, bytes]:
        # The predictor may have closed an idle connection.
        is_reused = self._connection.sock is not None
        try:
            return self._send(path, body, headers)
        except (ConnectionError, http.client.BadStatusLine):
            if not is_reused:
                raise
            return self._send(path, body, headers)

    def _send(self, path: str, body: bytes, headers: Dict[str, str]) -> Tuple[int, bytes]:
        try:
            self._connection.request("POST", path, body, headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except BaseException as problem:
            self._connection.close()
            if isinstance(problem, http.client.HTTPException):
                raise ConnectionError(problem) from None
            raise


def error_text(reason: Union[bytes, str]) -> str:
    """Return the message of an error's body: that of `{"error": …}`, or else its text."""
    text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
    with suppress(ValueError, TypeError, KeyError):
        text = str(json.loads(text)["error"])
    return text.strip()[:_MAX_TEXT]


def _encode_array(value: Any) -> Any:
    """Return arrays as lists and NumPy's numbers as numbers."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError("%s is not JSON serializable" % type(value).__name__)
