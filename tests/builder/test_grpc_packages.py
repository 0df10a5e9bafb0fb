"""grpcio and protobuf for each interpreter, in a folder of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fnbuild.builder import grpc_packages
from fnbuild.builder.grpc_packages import (
    GrpcPython,
    ensure_local_packages,
    ensure_packages,
    local_packages_folder,
    own_system,
    packages_folder,
)
from fnbuild.errors import BuildError
from fnbuild.function.types import Function, Spec, Trigger
from tests.runtime import interpreters

IMPORT = """
import sys
sys.path.insert(0, sys.argv[1])
import grpc, google.protobuf
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection
print(grpc.__version__, google.protobuf.__version__, grpc.__file__)
"""
RELEASES = {"3.6": "1.48.2", "3.7": "1.62.3", "3.8": "1.70.0", "3.9": "1.76.0", "3.13": "1.76.0"}


def python(version: str) -> GrpcPython:
    return GrpcPython(interpreters.numbers(version), own_system())


@pytest.mark.system
@pytest.mark.versions
@pytest.mark.parametrize("version", RELEASES)
def test_every_interpreter_imports_the_release_that_fits_it(version, data):
    interpreter = interpreters.find(version)
    if interpreter is None:
        pytest.skip(f"there is no Python {version}")
    folder = ensure_packages(python(version), lambda _: None)
    assert folder.parent == data / "grpc"
    command = [interpreter, "-IS", "-c", IMPORT, folder]
    output = subprocess.check_output(command, cwd="/", text=True).split()
    assert output[0] == RELEASES[version]
    assert output[2].startswith(str(folder))
    # A later deploy needs no network.
    assert ensure_packages(python(version), lambda _: None, offline=True) == folder


def test_processors_on_this_machine_use_the_packages_of_the_extra():
    own = GrpcPython(sys.version_info[:2], own_system())
    folder = local_packages_folder(own)
    assert folder in map(Path, sys.path)
    assert ensure_local_packages(own, lambda _: None) == folder


def test_images_get_the_packages_only_and_never_the_environment_of_fnbuild(data):
    own = GrpcPython(sys.version_info[:2], own_system())
    assert packages_folder(own).parent == data / "grpc"
    with pytest.raises(BuildError, match="may not be downloaded offline"):
        ensure_packages(own, lambda _: None, offline=True)


def test_without_the_extra_the_folder_is_in_the_data_directory(data, monkeypatch):
    monkeypatch.setattr(grpc_packages, "_MODULES", ("grpc", "no_such_module"))
    own = GrpcPython(sys.version_info[:2], own_system())
    assert local_packages_folder(own) == packages_folder(own)


def test_offline_without_a_copy_the_remedy_is_named(data):
    with pytest.raises(BuildError) as caught:
        ensure_packages(GrpcPython((3, 6), "x86_64-glibc"), lambda _: None, offline=True)
    assert "grpcio for cpython3.6-x86_64-glibc" in caught.value.message
    assert "deploy once with network access" in str(caught.value.hint)


def test_a_package_index_without_the_packages_is_an_error(data, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(BuildError, match="cannot be installed") as caught:
        ensure_packages(GrpcPython((3, 8), "x86_64-glibc"), lambda _: None)
    assert "HTTP works without it" in str(caught.value.hint)
    assert list((data / "grpc").iterdir()) == []


def test_there_is_no_grpcio_for_pypy(data):
    with pytest.raises(BuildError, match="there is none"):
        ensure_packages(GrpcPython((3, 9), "x86_64-glibc", "pypy"), lambda _: None)


@pytest.mark.parametrize(
    ("protocols", "expected"),
    [(["v1", "grpc"], True), (["v1", "v2"], False), (None, False), ("grpc", False)],
)
def test_the_http_trigger_lists_grpc(protocols, expected):
    trigger = Trigger(kind="http", attributes={"protocols": protocols} if protocols else {})
    function = Function(spec=Spec(triggers={"web": trigger}))
    assert grpc_packages.serves_grpc(function) is expected
    assert not grpc_packages.serves_grpc(Function())


@pytest.mark.parametrize(
    ("system", "tags"),
    [
        ("x86_64-glibc", ("manylinux2014_x86_64", "manylinux_2_17_x86_64")),
        ("aarch64-musl", ("musllinux_1_2_aarch64", "musllinux_1_1_aarch64")),
    ],
)
def test_wheels_fit_the_system_of_an_image(system, tags):
    assert GrpcPython((3, 11), system).wheel_tags == tags
