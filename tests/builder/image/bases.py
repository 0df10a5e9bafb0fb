"""Base images of every kind that a function may name, built from a local Debian image.

The engine keeps them for later runs under the hash of their recipe; nothing removes them.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import locks
from tests.runtime import interpreters

FOUNDATION = "fnbuild/test-base:debian"

# No program of Debian in the image needs them.
_NO_PIP = "apt-get purge -qq -y --auto-remove python3-pip python3-setuptools python3-wheel"
_NO_PYTHON = "rm -rf /usr/bin/python* /usr/bin/py3* /usr/bin/pip* /usr/lib/python3*"
# Packages as in a model's environment, compiled so that their use writes nothing.
_MODEL = (
    "mkdir -p {0} && echo VALUE=1 > {0}/of_the_model.py && {1} -m compileall -q {0}/of_the_model.py"
)

# Only Python and its libraries: no shell, no other program.
_BARE = """\
import os, re, shutil, subprocess, sys
files = ["/usr/bin/python3", "/usr/bin/python3.11"]
loaded = [files[1]] + [os.path.join(at, name) for at, _, names in os.walk("/usr/lib/python3.11")
                       for name in names if name.endswith(".so")]
for path in loaded:
    text = subprocess.run(["ldd", path], stdout=subprocess.PIPE).stdout.decode()
    files += re.findall(r"(/\\S+) \\(0x", text)
for path in sorted(set(files)):
    at = "/tree" + os.path.realpath(os.path.dirname(path))
    os.makedirs(at, exist_ok=True)
    shutil.copy(path, at)
shutil.copytree("/usr/lib/python3.11", "/tree/usr/lib/python3.11", symlinks=True)
os.makedirs("/tree/usr/lib/python3/dist-packages")
for name in ("lib", "lib64"):
    os.symlink("usr/" + name, "/tree/" + name)
"""


_LEFT_OUT = (
    *("test", "tests", "idlelib", "tkinter", "ensurepip", "lib2to3", "site-packages"),
    *("config-*", "*.a"),
)


@dataclass(frozen=True, slots=True)
class Base:
    """A kind of image. `python` runs the processor, `handler` the function: paths in the image.

    `interpreter` is the value of NUCLIO_PYTHON_EXE_PATH, if any; `version` is that of the handler's
    Python. `copied` is a Python of this machine that the recipe copies from `python/`.
    """

    name: str
    recipe: str
    python: str
    handler: str
    version: tuple[int, int, int]
    implementation: str = "cpython"
    interpreter: str = ""
    copied: str = ""


_DEBIAN = Base(
    "debian",
    f"RUN {_NO_PIP} && " + _MODEL.format("/usr/local/lib/python3.11/dist-packages", "python3"),
    python="/usr/bin/python3",
    handler="/usr/bin/python3",
    version=(3, 11, 0),
)
_LOCAL = "COPY python /usr/local\nRUN ldconfig && ln -sf python3 /usr/local/bin/python"

BASES = {
    base.name: base
    for base in (
        _DEBIAN,
        Base(
            "no-pip",
            f"RUN {_NO_PYTHON}\n{_LOCAL}",
            python="/usr/local/bin/python3.9",
            handler="/usr/local/bin/python3",
            version=(3, 9, 0),
            copied="3.9",
        ),
        Base(
            "python3.6",
            f"RUN {_NO_PYTHON}\n{_LOCAL}",
            python="/usr/local/bin/python3.6",
            handler="/usr/local/bin/python3",
            version=(3, 6, 0),
            copied="3.6",
        ),
        Base(
            "pypy3.9",
            "RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends pypy3"
            f" && rm -rf /var/lib/apt/lists/* && {_NO_PYTHON}",
            python="/usr/bin/pypy3",
            handler="/usr/bin/pypy3",
            version=(3, 9, 0),
            implementation="pypy",
        ),
        Base(
            "venv",
            "RUN python3 -m venv --without-pip /opt/model && "
            + _MODEL.format("/opt/model/lib/python3.11/site-packages", "/opt/model/bin/python"),
            python="/usr/bin/python3",
            handler="/opt/model/bin/python",
            version=(3, 11, 0),
            interpreter="/opt/model/bin/python",
        ),
        Base(
            "two-pythons",
            "COPY python /opt/conda\n"
            "RUN echo /opt/conda/lib > /etc/ld.so.conf.d/conda.conf && ldconfig",
            python="/usr/bin/python3",
            handler="/opt/conda/bin/python3.6",
            version=(3, 6, 0),
            interpreter="/opt/conda/bin/python3.6",
            copied="3.6",
        ),
        # A shebang cannot name it.
        Base(
            "odd-path",
            'COPY ["python", "/opt/my model"]\n'
            'ENV PATH="/opt/my model/bin:$PATH" LD_LIBRARY_PATH="/opt/my model/lib"\n'
            f"RUN {_NO_PYTHON}",
            python="/opt/my model/bin/python3",
            handler="/opt/my model/bin/python3",
            version=(3, 9, 0),
            copied="3.9",
        ),
        Base(
            "entrypoint",
            """\
RUN printf '#!/bin/sh\\nexport SAID_BY_ENTRYPOINT=yes\\nexec "$@"\\n' > /enter && chmod 755 /enter
ENTRYPOINT ["/enter"]
USER 1234:1234
WORKDIR /srv""",
            python="/usr/bin/python3",
            handler="/usr/bin/python3",
            version=(3, 11, 0),
        ),
        Base(
            "no-shell",
            "COPY bare.py /bare.py\nRUN python3 /bare.py\nFROM scratch\nCOPY --from=0 /tree /",
            python="/usr/bin/python3",
            handler="/usr/bin/python3",
            version=(3, 11, 0),
        ),
    )
}


def image(name: str) -> str:
    """Return the reference of the base image, which is built if necessary, or skip the test."""
    base = BASES[name]
    foundation = image_id(FOUNDATION)
    if foundation is None:
        pytest.skip(f"the engine has no image {FOUNDATION}")
    python = interpreters.find(base.copied) if base.copied else None
    if base.copied and python is None:
        pytest.skip(f"no python{base.copied} on this machine")
    first = FOUNDATION if base is _DEBIAN else image(_DEBIAN.name)
    recipe = f"{foundation}\n{first}\n{base.copied}\n{base.recipe}\n{_BARE}"
    reference = f"fnbuild-test-base-{name}:{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with exclusive():
        if image_id(reference) is None:
            _build(base, first, reference, python)
    return reference


def _build(base: Base, first: str, reference: str, python: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="fnbuild-test-") as folder:
        context = Path(folder)
        (context / "bare.py").write_text(_BARE)
        if python:
            copy_python(python, context / "python")
        (context / "Dockerfile").write_text(f"FROM {first}\n{base.recipe}\n")
        docker("build", "-q", "-t", reference, folder)


def copy_python(python: str, target: Path) -> None:
    """Copy a Python of this machine without rarely used parts."""
    question = "import sys; print(sys.base_prefix, '%d.%d' % sys.version_info[:2])"
    answer = subprocess.check_output([python, "-c", question], text=True)
    prefix, number = answer.split()
    name = f"python{number}"
    (target / "bin").mkdir(parents=True)
    shutil.copy(f"{prefix}/bin/{name}", target / "bin" / name)
    (target / "bin" / "python3").symlink_to(name)
    ignored = shutil.ignore_patterns(*_LEFT_OUT)
    shutil.copytree(f"{prefix}/lib/{name}", target / "lib" / name, symlinks=True, ignore=ignored)
    (target / "lib" / name / "site-packages").mkdir()
    for library in Path(prefix, "lib").glob(f"libpython{number}*.so*"):
        shutil.copy(library, target / "lib")


def image_id(reference: str) -> str | None:
    """Return the id of an image, if the engine has it."""
    inspected = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Id}}", reference],
        capture_output=True,
        text=True,
        check=False,
    )
    return inspected.stdout.strip() or None


@contextmanager
def exclusive() -> Iterator[None]:
    """Let one process build base images at a time, so that none is built twice."""
    with locks.exclusive("bases"):
        yield


def docker(*arguments: str | Path) -> str:
    """Return the output of the engine's client; fail the test if it fails."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()
