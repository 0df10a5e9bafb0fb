"""What the supervisor and its processors inherit from the shell that happened to start them.

Only what a program needs to find its machine: a token in somebody's shell must not reach a model,
and a caller's virtual environment must not decide what a function imports.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import fnbuild

_KEPT = frozenset(
    (
        *("HOME", "PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "USER", "LOGNAME"),
        *("LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "FNBUILD_DATA_DIR"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
        *("http_proxy", "https_proxy", "no_proxy", "all_proxy"),
        *("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"),
    )
)
_KEPT_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "OPENBLAS_")


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that is passed on, with the way to this very fnbuild."""
    kept = {
        key: value
        for key, value in environment.items()
        if key in _KEPT or key.startswith(_KEPT_PREFIXES)
    }
    own = environment.get("VIRTUAL_ENV")
    if own and "PATH" in kept:
        parts = kept["PATH"].split(":")
        kept["PATH"] = ":".join(part for part in parts if part != f"{own}/bin")
    kept["PYTHONPATH"] = str(Path(fnbuild.__file__).parent.parent)
    kept["PYTHONUNBUFFERED"] = "1"
    return kept
