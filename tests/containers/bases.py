"""Base images of whole functions, which the engine keeps for later runs under their hash."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sysconfig
import tarfile
import tempfile
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import IO

import pytest
from packaging.requirements import Requirement

from fnbuild.function.types import Function
from tests.builder.image.bases import copy_python, docker, exclusive, image_id
from tests.engine import PYTHON_IMAGE
from tests.runtime import interpreters

# Which extensions the image's Python loads, and where it looks for packages.
_ASK = "import sysconfig as s; print(s.get_config_var('SOABI'), s.get_path('purelib'))"

# What running a model on a CPU needs of torch is in none of these.
_LEFT_OUT = ("torch/include/", "torch/test/", "torch/share/", "torch/bin/test", "torch/bin/protoc")

_CONDA = "/root/miniconda3"
_ENVIRONMENT = f"{_CONDA}/envs/alphapose"
_CONDA_IMAGE = f"""\
FROM {PYTHON_IMAGE}
COPY base {_CONDA}
COPY environment {_ENVIRONMENT}
RUN ln -s python3 {_CONDA}/bin/python && ln -s python3 {_ENVIRONMENT}/bin/python \\
 && printf '%s\\n' {_CONDA}/lib {_ENVIRONMENT}/lib > /etc/ld.so.conf.d/conda.conf && ldconfig \\
 && pip install -q --no-compile --only-binary :all: --python-version 3.6 \\
      --target {_ENVIRONMENT}/lib/python3.6/site-packages numpy==1.19.5 pillow==8.4.0 \\
 && rm -rf /usr/bin/python* /usr/bin/py3* /usr/bin/pip* /usr/lib/python3*
ENV PATH={_CONDA}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN useradd --create-home annotator
WORKDIR /home/annotator
USER annotator
"""

# Conda at its usual place. As the real one it takes no words with line breaks.
_MINICONDA = f"""\
USER root
COPY conda /opt/conda/bin/conda
RUN chmod 755 /opt/conda/bin/conda && ln -s {_CONDA}/bin/python3 /opt/conda/bin/python
ENV PATH=/opt/conda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""
_CONDA_PROGRAM = f"""\
#!/bin/sh
command=$1; shift
while :; do
    case $1 in
        -n) name=$2; shift 2;;
        -*|python=*) shift;;
        *) break;;
    esac
done
case $command in
    create) mkdir -p /opt/conda/envs && ln -s {_ENVIRONMENT} "/opt/conda/envs/$name";;
    run) case "$*" in *"
"*) echo "words with line breaks are not implemented" >&2; exit 1;; esac
        export CONDA_DEFAULT_ENV="$name" PATH="/opt/conda/envs/$name/bin:$PATH"
        exec "$@";;
esac
"""

# Nothing is fetched: what is installed lies in the image already, at a place of its own.
_BARE = f"""\
FROM {PYTHON_IMAGE}
COPY apt-get pip /opt/stand-in/
RUN cp -L /usr/bin/python3 /opt/stand-in/python3 && rm -f /usr/bin/python* /usr/bin/pip* \\
 && cd /opt/stand-in && chmod 755 apt-get pip && ln -sf /opt/stand-in/apt-get /usr/bin/apt-get
"""
_APT_GET = """\
#!/bin/sh
echo "apt-get $*" >> /opt/stand-in/asked
for word; do
    case $word in
        python3|python3-pip) ln -sf /opt/stand-in/python3 /usr/bin/python3;;
    esac
    case $word in
        python3-pip) ln -sf /opt/stand-in/pip /usr/bin/pip3; ln -sf pip3 /usr/bin/pip;;
        python-is-python3) ln -sf python3 /usr/bin/python;;
    esac
done
"""
_PIP = """\
#!/bin/sh
echo "pip $*" >> /opt/stand-in/asked
"""


def with_torch() -> str:
    """Return Python's image with the torch, numpy and OpenCV of the tests' environment.

    They are copied, because torch alone is a download of hundreds of megabytes.
    """
    abi, place = docker("run", "--rm", PYTHON_IMAGE, "python3", "-c", _ASK).split()
    if abi != sysconfig.get_config_var("SOABI"):
        pytest.skip(f"{PYTHON_IMAGE} has a Python ({abi}) that this environment's torch is not for")
    packages = _with_what_they_need("torch", "numpy", "opencv-python-headless")
    names = "\n".join(sorted(f"{name} {one.version}" for name, one in packages.items()))
    recipe = f"{image_id(PYTHON_IMAGE)}\n{place}\n{names}\n{_LEFT_OUT}"
    reference = _reference("torch", recipe)
    with exclusive():
        if image_id(reference) is None:
            _build_with(packages, place, reference)
    return reference


def conda() -> str:
    """Return an image like those of Conda models: Pythons 3.8 and 3.6 in root's home directory.

    The one of the model's environment has NumPy and Pillow; neither has pip.
    """
    pythons = {"base": interpreters.find("3.8"), "environment": interpreters.find("3.6")}
    reference = _reference("conda", f"{image_id(PYTHON_IMAGE)}\n{_CONDA_IMAGE}")
    with exclusive(), tempfile.TemporaryDirectory(prefix="fnbuild-test-") as folder:
        if image_id(reference) is None:
            for name, python in pythons.items():
                if python is None:
                    pytest.skip("no python3.8 and python3.6 on this machine")
                copy_python(python, Path(folder, name))
            Path(folder, "Dockerfile").write_text(_CONDA_IMAGE)
            docker("build", "-q", "-t", reference, folder)
    return reference


def miniconda() -> str:
    """Return an image with a `conda` that creates environments with Python 3.6."""
    return _from_files("miniconda", f"FROM {conda()}\n{_MINICONDA}", {"conda": _CONDA_PROGRAM})


def bare() -> str:
    """Return an image without Python, whose `apt-get` installs one and records its arguments."""
    return _from_files("bare", _BARE, {"apt-get": _APT_GET, "pip": _PIP})


def with_python() -> str:
    """Return the same after the installation of Python and pip."""
    return _from_files("bare-python", f"FROM {bare()}\nRUN apt-get install python3-pip\n", {})


def with_lines_of(function: Function) -> str:
    """Return Python's image after the function's own lines.

    While the engine keeps it, the lines of a build on Python's image come from the engine's cache.
    """
    lines = "".join(f"{one.kind} {one.value}\n" for one in function.spec.build.directives.pre_copy)
    return _from_files("library", f"FROM {PYTHON_IMAGE}\n{lines}", {})


def _from_files(word: str, recipe: str, files: dict[str, str]) -> str:
    reference = _reference(word, f"{image_id(PYTHON_IMAGE)}\n{recipe}\n{files}")
    with exclusive(), tempfile.TemporaryDirectory(prefix="fnbuild-test-") as folder:
        if image_id(reference) is None:
            for name, text in {**files, "Dockerfile": recipe}.items():
                Path(folder, name).write_text(text)
            docker("build", "-q", "-t", reference, folder)
    return reference


def _reference(word: str, recipe: str) -> str:
    return f"fnbuild-test-base-{word}:{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def _with_what_they_need(*names: str) -> dict[str, Distribution]:
    """Return the packages and their requirements without extras, by name."""
    found: dict[str, Distribution] = {}
    wanted = list(names)
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found[name] = distribution(name)
        for line in found[name].requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                wanted.append(needed.name)
    return found


def _build_with(packages: dict[str, Distribution], place: str, reference: str) -> None:
    """Build from an archive that is written while the engine reads it."""
    command = ["docker", "build", "-q", "-t", reference, "-"]
    with tempfile.TemporaryFile() as log:
        building = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        assert building.stdin is not None
        with building.stdin as pipe:
            _write(packages, f"FROM {PYTHON_IMAGE}\nCOPY packages {place}\n", pipe)
        status = building.wait()
        log.seek(0)
        assert status == 0, log.read().decode()


def _write(packages: dict[str, Distribution], dockerfile: str, pipe: IO[bytes]) -> None:
    with tarfile.open(fileobj=pipe, mode="w|") as archive:
        first = tarfile.TarInfo("Dockerfile")
        first.size = len(dockerfile)
        archive.addfile(first, io.BytesIO(dockerfile.encode()))
        for package in packages.values():
            for path in package.files or ():
                # What lies elsewhere are programs, which nobody runs here.
                unwanted = {"..", "tests"}.intersection(path.parts) or path.suffix == ".pyc"
                if not unwanted and not str(path).startswith(_LEFT_OUT):
                    archive.add(path.locate(), f"packages/{path}")
