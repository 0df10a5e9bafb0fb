"""One call of another function: `processor --invoke URL`, for jobs that do nothing else.

They run in the function's own image, which may have no curl.
"""

import sys
from typing import Dict, Optional
from urllib.parse import urlsplit, urlunsplit

from .http import client

# What is quoted of a reply.
_LONGEST = 300


def main(url: str, method: str, headers: Dict[str, str], body: str, timeout: float) -> int:
    """0 when the reply is 2xx, else 1, and why in one line on stderr.

    Without a `method` it is POST with a body and GET without, as curl has it. `timeout` is in
    seconds, for each wait.
    """
    trouble = _call(url, method or ("POST" if body else "GET"), headers, body, timeout)
    if trouble is None:
        return 0
    sys.stderr.write("%s: %s\n" % (url, " ".join(trouble.split())[:_LONGEST]))
    return 1


def _call(
    url: str, method: str, headers: Dict[str, str], body: str, timeout: float
) -> Optional[str]:
    parts = urlsplit(url)
    where = "%s://%s" % parts[:2]
    path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    data = body.encode("utf-8", "surrogateescape") or None
    try:
        answer = client.request(method, where, path, data, headers, timeout)
    except (OSError, ValueError) as problem:
        return str(problem) or type(problem).__name__
    if 200 <= answer.status < 300:
        return None
    return "status %d: %s" % (answer.status, answer.body.decode("utf-8", "replace"))
