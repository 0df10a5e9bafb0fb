"""Sign-in links: codes that a browser exchanges once for a session, kept in memory only.

Tokens are stored as digests only, so a link cannot contain one. A link that remains in a browser's
history or a terminal's scrollback is useless once it was used or has expired.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time

CODE_SECONDS = 900
_MOST = 8


class SignInCodes:
    """Codes that have been issued and neither used nor expired."""

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}

    def issue(self) -> str:
        """Return a code for one sign-in within the next 15 minutes."""
        code = secrets.token_urlsafe(32)
        while len(self._ends) >= _MOST:
            del self._ends[next(iter(self._ends))]
        self._ends[_digest(code)] = time.monotonic() + CODE_SECONDS
        return code

    def redeem(self, code: str) -> bool:
        """Return True the first time that a valid code is presented."""
        wanted = _digest(code)
        matches = [digest for digest in self._ends if hmac.compare_digest(digest, wanted)]
        return any(self._ends.pop(digest) > time.monotonic() for digest in matches)


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
