"""An image like `pytorch/torchserve:0.12.0-cpu`, of Debian's Java and the packages of PyPI.

The engine keeps it for later runs under the hash of its recipe.
"""

from __future__ import annotations

import functools
from importlib.metadata import distributions

from tests.containers import bases
from tests.engine import require_engine, require_image
from tests.torchserve_server import archiver_python

HOME = "/home/model-server"
"""The home directory of the image's user, which has the ID 1000."""

# Java's package writes to the folder of manual pages, which small images lack.
_JAVA = """\
RUN mkdir -p /usr/share/man/man1 && apt-get update -qq \\
 && apt-get install -qq -y --no-install-recommends openjdk-17-jre-headless > /dev/null \\
 && rm -rf /var/lib/apt/lists/*
"""

# Like the original's, the entry point goes on when TorchServe has ended.
_SERVER = f"""\
RUN python3 -m compileall -q /usr/local/lib/python3.11/dist-packages > /dev/null || true
RUN printf '%s\\n' '#!/usr/bin/python3' 'import sys' 'from ts.model_server import start' \\
      'sys.exit(start())' > /usr/local/bin/torchserve \\
 && printf '%s\\n' '#!/bin/bash' 'set -e' 'if [[ "$1" = "serve" ]]; then shift 1' \\
      '  torchserve --start --ts-config {HOME}/config.properties --disable-token-auth' \\
      'else eval "$@"; fi' 'tail -f /dev/null' > /usr/local/bin/dockerd-entrypoint.sh \\
 && chmod 755 /usr/local/bin/torchserve /usr/local/bin/dockerd-entrypoint.sh \\
 && useradd --create-home --uid 1000 --shell /bin/bash --home-dir {HOME} model-server \\
 && mkdir {HOME}/tmp && chown model-server: {HOME}/tmp
# TorchServe ends workers by the command `kill`, which small images lack.
RUN printf '%s\\n' '#!/bin/bash' 'kill "$@"' > /usr/bin/kill && chmod 755 /usr/bin/kill
USER model-server
WORKDIR {HOME}
ENV TEMP={HOME}/tmp
ENTRYPOINT ["/usr/local/bin/dockerd-entrypoint.sh"]
CMD ["serve"]
"""


# A small virtual machine of Java starts with half of the CPU time.
_JAVA_OPTIONS = "-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"


@functools.cache
def torchserve_image() -> str:
    """Return the reference of the image; skip without an engine and the base image."""
    return bases.with_lines(
        "torchserve-small", _large_image(), f'ENV JAVA_TOOL_OPTIONS="{_JAVA_OPTIONS}"\n'
    )


def without_torch(packages: str) -> str:
    """Return an image whose workers import a substitute for PyTorch from a folder of the store.

    The import takes most of the start of a worker.
    """
    lines = f"ENV PYTHONPATH={packages}\n"
    return bases.with_lines("torchserve-without-torch", torchserve_image(), lines)


def _large_image() -> str:
    require_image(require_engine())
    python = archiver_python()
    site = python.parent.parent / "lib" / "python3.11" / "site-packages"
    unneeded = ("setuptools", "wheel", "pip", "torch-model-archiver")
    packages = [item for item in distributions(path=[str(site)]) if item.name not in unneeded]
    return bases.with_packages("torchserve", packages, before=_JAVA, after=_SERVER)
