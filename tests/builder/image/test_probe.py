"""Probing real images for their Python."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from fnbuild.builder.image import probe
from fnbuild.builder.image.probe import ImagePython, probe_image
from fnbuild.datadir import data_dir
from fnbuild.errors import BuildError
from tests.builder.image import bases
from tests.engine import engine_resources, require_engine, small_base

pytestmark = pytest.mark.system

# A program that answers as a Python of that version does.
_PRETENDER = """\
#!/bin/sh
echo '{"path": "%s", "version": [%s], "implementation": "cpython", "system": "x86_64-musl",'\\
' "folders": {"places": {}, "owners": {}}}'
"""


class RecordingEngine:
    """An engine that records the programs it runs."""

    def __init__(self, engine):
        self.engine = engine
        self.commands = []

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def run(self, image, command, timeout=30.0):
        self.commands.append(command[0])
        return self.engine.run(image, command, timeout)


@pytest.fixture
def engine():
    return RecordingEngine(require_engine())


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Iterator[str]:
    """An image with a shell and without Python."""
    with engine_resources(require_engine()) as resources:
        yield small_base(resources, tmp_path_factory.mktemp("base"))


@pytest.fixture
def image_with_fake_pythons(resources, bare, tmp_path):
    """An image with programs that pretend to be Pythons: {path: version}."""

    def build(programs: dict[str, str]) -> str:
        folder = tmp_path / "context"
        for path, version in programs.items():
            file = folder / "root" / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_PRETENDER % (path, version))
            file.chmod(0o755)
        return resources.build(folder, f"FROM {bare}\nCOPY root /\n", "pretending")

    return build


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("debian", "/usr/bin/python3"),
        ("no-pip", "/usr/local/bin/python3"),
        ("python3.6", "/usr/local/bin/python3"),
        ("entrypoint", "/usr/bin/python3"),
        ("no-shell", "/usr/bin/python3"),
    ],
)
def test_python_on_path_is_found_with_one_container(engine, name, path):
    image = bases.image(name)
    probed = probe_image(engine, image, None)
    assert probed.python.path == path
    assert probed.python.version[:2] == bases.BASES[name].version[:2]
    assert probed.python.implementation == "cpython"
    assert probed.python.system.startswith(f"{os.uname().machine}-")
    assert engine.commands == ["python3"]


def test_pypy_is_found_in_the_usual_places(engine):
    probed = probe_image(engine, bases.image("pypy3.9"), None)
    assert probed.python.path == "/usr/bin/pypy3"
    assert probed.python.version[:2] == (3, 9)
    assert probed.python.implementation == "pypy"
    assert str(probed.python).startswith("PyPy 3.9.")


def test_the_requested_interpreter_is_used(engine):
    probed = probe_image(engine, bases.image("venv"), "/opt/model/bin/python")
    assert probed.python.path == "/opt/model/bin/python"
    assert engine.commands == ["/opt/model/bin/python"]


def test_the_requested_interpreter_must_exist(engine, bare):
    with pytest.raises(BuildError) as caught:
        probe_image(engine, bare, "/opt/conda/bin/python")
    assert caught.value.message == (
        f"NUCLIO_PYTHON_EXE_PATH=/opt/conda/bin/python does not exist in the image {bare}"
    )


def test_the_requested_interpreter_must_be_a_python(engine, bare):
    with pytest.raises(BuildError, match="does not run as a Python interpreter") as caught:
        probe_image(engine, bare, "/bin/sh")
    assert caught.value.detail


def test_the_requested_interpreter_must_be_recent_enough(engine, image_with_fake_pythons):
    image = image_with_fake_pythons({"/opt/old/python": "3, 5, 2"})
    with pytest.raises(BuildError, match=r"is Python 3\.5\.2 at /opt/old/python; functions need"):
        probe_image(engine, image, "/opt/old/python")


def test_the_error_for_an_image_without_python_lists_the_paths_tried(engine, bare):
    with pytest.raises(BuildError) as caught:
        probe_image(engine, bare, None)
    message = caught.value.message
    assert message.startswith(f"the image {bare} has no usable Python (3.6 or later): looked for")
    for place in ("python3 and python", "/opt/conda/bin/python", "pypy3", "python3.6"):
        assert place in message
    assert "found" not in message
    assert "apt-get install -y python3" in caught.value.hint
    assert len(engine.commands) == 3


def test_the_error_for_an_old_python_names_a_newer_one_in_the_image(
    engine, image_with_fake_pythons
):
    image = image_with_fake_pythons(
        {"/usr/bin/python3": "3, 5, 3", "/opt/conda/bin/python": "3, 9, 1"}
    )
    with pytest.raises(BuildError, match=r"found Python 3\.5\.3 at /usr/bin/python3") as caught:
        probe_image(engine, image, None)
    assert caught.value.hint == (
        "set NUCLIO_PYTHON_EXE_PATH to /opt/conda/bin/python, which is Python 3.9.1 at"
        " /opt/conda/bin/python"
    )


def test_a_python_outside_path_is_used_if_path_has_none(engine, image_with_fake_pythons):
    probed = probe_image(
        engine, image_with_fake_pythons({"/opt/conda/bin/python": "3, 7, 12"}), None
    )
    assert probed.python == ImagePython(
        "/opt/conda/bin/python", (3, 7, 12), "cpython", "x86_64-musl"
    )


def test_the_result_is_cached_by_the_images_id(engine, resources, image_with_fake_pythons):
    image = image_with_fake_pythons({"/usr/bin/python3": "3, 8, 1"})
    first = probe_image(engine, image, None)
    other = resources.image("other-name")
    engine.tag(image, other)
    assert probe_image(engine, other, None) == first
    assert engine.commands == ["python3"]
    with pytest.raises(BuildError):
        probe_image(engine, image, "/no/python")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"a": {"processor": {}}}'])
def test_a_damaged_cache_is_ignored(engine, image_with_fake_pythons, content):
    image = image_with_fake_pythons({"/usr/bin/python3": "3, 8, 1"})
    (data_dir() / "pythons.json").write_text(content)
    assert probe_image(engine, image, None).python.version == (3, 8, 1)
    assert len(json.loads((data_dir() / "pythons.json").read_text())) == 1


def test_the_cache_is_limited(engine, image_with_fake_pythons, monkeypatch):
    monkeypatch.setattr(probe, "_MAX_CACHED_IMAGES", 1)
    first = image_with_fake_pythons({"/usr/bin/python3": "3, 8, 1"})
    probe_image(engine, first, None)
    probe_image(engine, bases.image("debian"), None)
    probe_image(engine, first, None)
    assert engine.commands == ["python3"] * 3


def test_a_missing_image_is_an_error(engine, resources):
    with pytest.raises(BuildError, match="is not in docker"):
        probe_image(engine, resources.name("missing"), None)
