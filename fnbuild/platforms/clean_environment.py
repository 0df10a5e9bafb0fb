"""The environment variables of daemons, processors and servers.

A token in the shell of the user who started them must not reach a model, and an active virtual
environment must not decide what a function imports.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import fnbuild

_KEPT_VARIABLES = frozenset(
    (
        *("HOME", "PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "USER", "LOGNAME"),
        *("LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "FNBUILD_DATA_DIR"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
        *("http_proxy", "https_proxy", "no_proxy", "all_proxy"),
        *("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"),
    )
)
_KEPT_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "OPENBLAS_")


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a daemon or processor, with the path of this fnbuild."""
    kept = {
        key: value
        for key, value in environment.items()
        if key in _KEPT_VARIABLES or key.startswith(_KEPT_PREFIXES)
    }
    active = environment.get("VIRTUAL_ENV")
    if active and "PATH" in kept:
        parts = kept["PATH"].split(":")
        kept["PATH"] = ":".join(part for part in parts if part != f"{active}/bin")
    kept["PYTHONPATH"] = str(Path(fnbuild.__file__).parent.parent)
    kept["PYTHONUNBUFFERED"] = "1"
    return kept
