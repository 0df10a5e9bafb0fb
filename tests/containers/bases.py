"""Base images of whole functions, which the engine keeps for later runs under their hash."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import IO

import pytest
from packaging.requirements import Requirement

from fnbuild.function.reader import load_function
from fnbuild.function.types import Function
from tests.builder.image.bases import copy_python, docker, exclusive, image_id
from tests.engine import PYTHON_IMAGE
from tests.runtime import interpreters

# Prints the ABI of the image's Python and its folder for packages.
_INSPECT_PYTHON = "import sysconfig as s; print(s.get_config_var('SOABI'), s.get_path('purelib'))"

# Parts of torch that are not needed to run a model on a CPU.
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

# Conda at its usual location. Like the real one it refuses arguments with line breaks.
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

# Nothing is downloaded: installed packages are already in the image, in a separate folder.
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
    packages = _with_requirements("torch", "numpy", "opencv-python-headless")
    return with_packages("torch", packages.values())


def with_packages(
    name: str,
    packages: Iterable[Distribution],
    *,
    base: str = PYTHON_IMAGE,
    before: str = "",
    after: str = "",
) -> str:
    """Return an image with copies of packages that are installed on this machine.

    `before` and `after` are lines of a Dockerfile around the copy. The base has Debian's Python.
    """
    abi, folder = docker("run", "--rm", PYTHON_IMAGE, "python3", "-c", _INSPECT_PYTHON).split()
    if abi != sysconfig.get_config_var("SOABI"):
        pytest.skip(f"{PYTHON_IMAGE} has a Python ({abi}) that these packages are not for")
    by_name = {f"{package.name} {package.version}": package for package in packages}
    # Otherwise each container would compile torch, which takes seconds. A file of it is for newer
    # Pythons only.
    compiled = f"COPY packages {folder}\nRUN python3 -m compileall -qq -j 0 {folder} || true"
    recipe = f"FROM {base}\n{before}{compiled}\n{after}"
    names = "\n".join(sorted(by_name))
    reference = _reference(name, f"{image_id(base)}\n{recipe}\n{names}\n{_LEFT_OUT}")
    with exclusive():
        if image_id(reference) is None:
            _build_with(by_name.values(), recipe, reference)
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
    """Return the bare image after the installation of Python and pip."""
    return _from_files("bare-python", f"FROM {bare()}\nRUN apt-get install python3-pip\n", {})


def with_lines_of(function: Function) -> str:
    """Return Python's image after the function's own lines.

    While the engine keeps it, builds with these lines on Python's image use the engine's cache.
    """
    lines = "".join(
        f"{item.kind} {item.value}\n" for item in function.spec.build.directives.pre_copy
    )
    return with_lines("library", PYTHON_IMAGE, lines)


def with_library(folders: Iterable[Path]) -> str:
    """Return an image with the requirements of all these functions.

    Builds of the functions on it find them installed. For each of their lines, an image is kept
    whose step such a build takes from the engine's cache.
    """
    lines = {
        f"{item.kind} {item.value}\n"
        for folder in folders
        for item in load_function(folder).function.spec.build.directives.pre_copy
    }
    base = with_lines("library", with_torch(), "".join(sorted(lines)))
    for line in sorted(lines):
        with_lines("library-line", base, line)
    return base


def with_lines(name: str, base: str, lines: str, files: Mapping[str, str] | None = None) -> str:
    """Return an image of these lines of a Dockerfile on a base; the lines may copy the files."""
    return _from_files(name, f"FROM {base}\n{lines}", files or {})


def _from_files(name: str, recipe: str, files: Mapping[str, str]) -> str:
    reference = _reference(name, f"{image_id(PYTHON_IMAGE)}\n{recipe}\n{files}")
    with exclusive(), tempfile.TemporaryDirectory(prefix="fnbuild-test-") as folder:
        if image_id(reference) is None:
            for file_name, text in {**files, "Dockerfile": recipe}.items():
                Path(folder, file_name).write_text(text)
            docker("build", "-q", "-t", reference, folder)
    return reference


def _reference(name: str, recipe: str) -> str:
    return f"fnbuild-test-base-{name}:{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def _with_requirements(*names: str) -> dict[str, Distribution]:
    """Return the packages and their requirements without extras, by name."""
    distributions: dict[str, Distribution] = {}
    pending = list(names)
    while pending:
        name = pending.pop()
        if name in distributions:
            continue
        distributions[name] = distribution(name)
        for line in distributions[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(requirement.name)
    return distributions


def _build_with(packages: Iterable[Distribution], recipe: str, reference: str) -> None:
    """Build from an archive that is written while the engine reads it."""
    command = ["docker", "build", "-q", "-t", reference, "-"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        assert process.stdin is not None
        with process.stdin as pipe:
            _write(packages, recipe, pipe)
        status = process.wait()
        log.seek(0)
        assert status == 0, log.read().decode()


def _write(packages: Iterable[Distribution], dockerfile: str, pipe: IO[bytes]) -> None:
    with tarfile.open(fileobj=pipe, mode="w|") as archive:
        first = tarfile.TarInfo("Dockerfile")
        first.size = len(dockerfile)
        archive.addfile(first, io.BytesIO(dockerfile.encode()))
        for package in packages:
            for path in package.files or ():
                # Files outside of the package folder are programs, which are not used here.
                unwanted = {"..", "tests"}.intersection(path.parts) or path.suffix == ".pyc"
                if not unwanted and not str(path).startswith(_LEFT_OUT):
                    archive.add(path.locate(), f"packages/{path}")
