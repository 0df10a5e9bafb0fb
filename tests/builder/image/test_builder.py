"""Images of functions' folders on the available engine; failures have their positions."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fnbuild.builder.image.builder import DIGEST_LABEL, BuiltImage
from fnbuild.builder.image.engine import Engine
from fnbuild.datadir import make_private_dir
from fnbuild.deploy import artifacts
from fnbuild.errors import BuildError, InputError
from fnbuild.function import reader
from fnbuild.function.types import Function
from tests.builder.image.builders import docker_of, exclusive
from tests.engine import (
    PYTHON_IMAGE,
    EngineResources,
    call,
    engine_resources,
    free_port,
    registry,
    require_engine,
    require_image,
    small_base,
)
from tests.fetched import copy_fetched
from tests.platforms import conftest as platforms

pytestmark = pytest.mark.system

HANDLER = "def handler(context, event):\n    return 'here'\n"

fetched, shared_layers = platforms.fetched, platforms.shared_layers


@pytest.fixture(scope="module")
def image_without_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with engine_resources(require_engine()) as resources:
        yield small_base(resources, tmp_path_factory.mktemp("base"))


@pytest.fixture
def engine() -> Engine:
    docker = require_engine()
    require_image(docker)
    return docker


@pytest.fixture
def resources(engine: Engine, shared_layers: None) -> Iterator[EngineResources]:
    with engine_resources(engine) as resources:
        yield resources


@dataclass
class Author:
    """An author of one function, who builds it."""

    resources: EngineResources
    folder: Path
    image: str
    progress: list[str] = field(default_factory=list)

    def write(self, build: str = "", env: str = "", base: str = PYTHON_IMAGE) -> None:
        lines = [
            f"metadata: {{name: {self.resources.name('built')}}}",
            "spec:",
            "  handler: main:handler",
            '  runtime: "python:3.11"',
            *([f"  env: {env}"] if env else []),
            "  build:",
            f"    image: {self.image}",
            f"    baseImage: {base}",
            *(f"    {line}" for line in build.splitlines()),
        ]
        (self.folder / "function.yaml").write_text("\n".join(lines) + "\n")
        (self.folder / "main.py").write_text(HANDLER)

    def build(self, overrides: Function | None = None) -> BuiltImage:
        loaded = reader.load_function(self.folder, overrides=overrides)
        return artifacts.build_image(loaded, self.resources.engine, self.progress.append)

    def output_of(self, *command: str) -> str:
        """Return the output of a program in the image."""
        done = self.resources.engine.run(self.image, command)
        assert done.status == 0, done.err
        return done.out


@pytest.fixture
def author(resources: EngineResources, tmp_path: Path, data: Path, fetched: Path) -> Author:
    copy_fetched(fetched, make_private_dir(data))
    folder = tmp_path / "function"
    folder.mkdir()
    return Author(resources, folder, resources.image("function"))


def test_the_image_has_code_configuration_and_program(author: Author, engine: Engine) -> None:
    author.write()
    overrides = reader.function_from_dict(
        {"spec": {"env": [{"name": "TOKEN", "value": "hush"}]}}, "flags"
    )
    built = author.build(overrides)
    facts = engine.inspect(built.reference)
    assert facts is not None
    assert facts.command == ("processor",)
    assert facts.labels[DIGEST_LABEL] == built.digest
    assert built.python.version[:2] == (3, 11)
    assert author.output_of("cat", "/opt/nuclio/main.py") == HANDLER
    assert "main:handler" in author.output_of("cat", "/etc/nuclio/config/processor/processor.json")
    assert "processor of fnbuild" in author.output_of("/usr/local/bin/processor", "--version")
    check_that_environment_values_are_not_in_the_image(author)


def check_that_environment_values_are_not_in_the_image(author: Author) -> None:
    matches = author.output_of(
        "sh", "-c", "grep -r hush /etc/nuclio /opt/nuclio /opt/fnbuild || true"
    )
    assert matches == ""


def test_passwords_of_the_configuration_are_not_in_the_image(author: Author) -> None:
    author.write(
        "codeEntryAttributes: {branch: a-hu5h, password: hu5h-1, headers: {Token: [hu5h-2]}}\n"
        "directives: {preCopy: [{kind: COPY, value: handler/function.yaml /etc/copy.yaml}]}"
    )
    file = author.folder / "function.yaml"
    file.write_text(file.read_text() + "  triggers: {web: {kind: http, secret: hu5h-3}}\n")
    author.build()
    layers = subprocess.Popen(["docker", "save", author.image], stdout=subprocess.PIPE)
    assert layers.stdout is not None
    with layers, layers.stdout as stream:
        command = ("grep", "-aoE", "a-hu5h|hu5h-.")
        result = subprocess.run(command, stdin=stream, capture_output=True, check=True)
    assert set(result.stdout.split()) == {b"a-hu5h"}


def test_a_failing_line_is_reported_with_its_position(author: Author) -> None:
    author.write(
        "directives:\n"
        "  preCopy:\n"
        "    - {kind: ENV, value: A=1}\n"
        "    - kind: RUN\n"
        "      value: echo the reason; exit 3\n"
    )
    with pytest.raises(BuildError) as failure:
        author.build()
    assert "function.yaml:12:18: spec.build.directives.preCopy[1]" in failure.value.message
    assert "the reason" in (failure.value.detail or "")


def test_a_failing_command_after_the_code_is_reported_too(author: Author) -> None:
    author.write('commands: ["@nuclio.postCopy", "cat /opt/nuclio/missing.txt"]')
    with pytest.raises(BuildError, match=r"spec.build.commands\[1\]") as failure:
        author.build()
    assert "missing.txt" in (failure.value.detail or "")


def test_a_failed_build_keeps_the_previous_image(author: Author, engine: Engine) -> None:
    author.write()
    before = author.build().id
    author.write("commands: [exit 1]")
    with pytest.raises(BuildError):
        author.build()
    facts = engine.inspect(author.image)
    assert facts is not None
    assert facts.id == before


def test_a_build_that_loses_its_python_keeps_the_previous_image(
    author: Author, engine: Engine, image_without_python: str
) -> None:
    author.write()
    before = author.build().id
    lines = "directives: {postCopy: [{kind: LABEL, value: python=none}]}"
    author.write(lines, base=image_without_python)
    with pytest.raises(BuildError, match="no usable Python"):
        author.build()
    facts = engine.inspect(author.image)
    assert facts is not None
    assert facts.id == before


def test_the_error_for_an_image_without_python_lists_the_paths_tried(
    author: Author, image_without_python: str
) -> None:
    author.write(base=image_without_python)
    with pytest.raises(BuildError, match="no usable Python") as failure:
        author.build()
    assert "/usr/bin/python3" in failure.value.message
    assert failure.value.hint is not None


def test_a_python_installed_after_the_code_is_found(
    author: Author, resources: EngineResources, tmp_path: Path
) -> None:
    away = "cp -L /usr/bin/python3 /opt/away && rm -f /usr/bin/python* /usr/local/bin/python*"
    base = resources.build(tmp_path / "hidden", f"FROM {PYTHON_IMAGE}\nRUN {away}\n")
    lines = "directives:\n  postCopy:\n    - {kind: RUN, value: ln -s /opt/away /usr/bin/python3}\n"
    author.write(lines, base=base)
    built = author.build()
    assert built.python.version[:2] == (3, 11)
    assert "processor of fnbuild" in author.output_of("/usr/local/bin/processor", "--version")


def test_the_requested_interpreter_must_exist(author: Author) -> None:
    author.write(env="[{name: NUCLIO_PYTHON_EXE_PATH, value: /opt/nowhere/python}]")
    with pytest.raises(BuildError, match="/opt/nowhere/python"):
        author.build()


def test_a_requirements_file_without_a_pip_line_is_installed(author: Author) -> None:
    author.write()
    (author.folder / "requirements.txt").write_text("colour-of-nothing==0.0.0\n")
    with pytest.raises(BuildError) as failure:
        author.build()
    assert "colour-of-nothing" in (failure.value.detail or "")
    assert failure.value.message.startswith("requirements.txt: step ")
    author.write("commands: ['true # requirements.txt is not wanted']")
    author.build()


def test_a_missing_base_image_is_an_error(author: Author, resources: EngineResources) -> None:
    absent = f"127.0.0.1:{free_port()}/{resources.name('absent')}:1"
    author.write("noBaseImagesPull: true", base=absent)
    with pytest.raises(BuildError, match="noBaseImagesPull") as failure:
        author.build()
    assert absent in failure.value.message
    author.write("offline: true", base=absent)
    with pytest.raises(BuildError, match="offline"):
        author.build()


def test_offline_lines_have_no_network(author: Author) -> None:
    author.write(
        "offline: true\n"
        "commands:\n"
        "  - python3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 80), 3)'\n"
    )
    with pytest.raises(BuildError) as failure:
        author.build()
    assert "Network is unreachable" in (failure.value.detail or "")


def test_build_arguments(author: Author) -> None:
    author.write("args: {WORD: hello}\ncommands: ['echo $WORD > /word']")
    author.build()
    assert author.output_of("cat", "/word") == "hello\n"


def test_the_image_is_pushed_to_the_registry(
    author: Author, engine: Engine, tmp_path: Path
) -> None:
    with registry(tmp_path, free_port()) as place:
        author.write(f"registry: {place.address}/")
        built = author.build()
        author.resources.images.append(built.registry_reference)
        assert built.registry_reference == f"{place.address}/{author.image}"
        assert built.pushed_digest.startswith("sha256:")
        identity = built.id.removeprefix("sha256:")
        assert (
            built.immutable_reference
            == f"{built.registry_reference.rpartition(':')[0]}:fnbuild-{identity[:16]}"
        )
        assert engine.inspect(built.immutable_reference) is None
        engine.remove(built.registry_reference)
        engine.pull(built.registry_reference, author.progress.append)
        assert engine.inspect(built.registry_reference) is not None


def test_a_failed_push_leaves_no_tag(author: Author, engine: Engine) -> None:
    author.write(f"registry: 127.0.0.1:{free_port()}")
    with pytest.raises(BuildError, match="cannot be pushed"):
        author.build()
    assert engine.inspect(author.image) is not None
    listed = call(engine, "images", "--format", "{{.Repository}}")
    assert [
        reference
        for reference in listed.split()
        if reference.startswith("127") and author.image in reference
    ] == []


def test_an_image_as_its_own_base_is_refused(author: Author) -> None:
    author.write(base=author.image)
    with pytest.raises(BuildError, match="are both") as failure:
        author.build()
    assert "--image" in (failure.value.hint or "")


def test_each_step_is_reported_once(author: Author) -> None:
    author.write("commands: [echo one, echo two]")
    author.build()
    steps = [line.split("  ")[1] for line in author.progress if line.startswith("step ")]
    assert steps.count("RUN echo one") == 1
    assert steps.count("RUN echo two") == 1
    assert steps[-1].startswith("LABEL fnbuild.io/digest=")


def test_the_context_is_written_to_the_requested_folder(author: Author, tmp_path: Path) -> None:
    place = tmp_path / "not" / "there yet"
    author.write(f"noCleanup: true\ntempDir: {place}")
    author.build()
    [folder] = place.iterdir()
    assert (folder / "Dockerfile.processor").read_text().startswith(f"FROM {PYTHON_IMAGE}")
    assert any(str(folder) in line for line in author.progress)


def test_an_unusable_context_folder_is_an_error(author: Author, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    author.write(f"tempDir: {file}/below")
    with pytest.raises(InputError, match=r"tempDir.*file/below: Not a directory"):
        author.build()


def test_an_edit_rebuilds_only_the_code_layer(author: Author, engine: Engine) -> None:
    author.write()
    (author.folder / "weights.bin").write_bytes(b"w" * (2 << 20))
    first = author.build()
    (author.folder / "main.py").write_text(HANDLER.replace("here", "there"))
    second = author.build()
    before, after = (engine.inspect(reference) for reference in (first.id, second.id))
    assert before is not None
    assert after is not None
    assert before.layers[:-1] == after.layers[:-1]
    assert before.layers[-1] != after.layers[-1]
    assert "there" in author.output_of("cat", "/opt/nuclio/main.py")


def test_a_build_leaves_only_the_image(
    author: Author, resources: EngineResources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BuildKit creates an image for each requested build."""
    buildkit = docker_of("buildkit")
    monkeypatch.setenv("DOCKER_BUILDKIT", "1")
    author.write(f"commands: ['echo {resources.token} > /word']")
    loaded = reader.load_function(author.folder)
    with exclusive("buildkit"):
        built = artifacts.build_image(loaded, buildkit, author.progress.append)
    word = f"echo {resources.token}"
    left = call(resources.engine, "images", "--quiet", "--no-trunc", "--filter", "dangling=true")
    made_here = [
        reference
        for reference in left.split()
        if any(word in layer.created_by for layer in resources.engine.history(reference))
    ]
    assert made_here == []
    assert author.output_of("cat", "/word") == f"{resources.token}\n"
    assert resources.engine.inspect(built.id) is not None


def test_concurrent_builds_share_common_steps(author: Author, resources: EngineResources) -> None:
    author.write(f"commands: ['sleep 5; echo {resources.token}; date +%N > /when']")
    second = Author(resources, author.folder.parent / "second", resources.image("second"))
    second.folder.mkdir()
    second.write(f"commands: ['sleep 5; echo {resources.token}; date +%N > /when']")
    with ThreadPoolExecutor() as pool:
        for built in [pool.submit(author.build), pool.submit(second.build)]:
            built.result()
    assert author.output_of("cat", "/when") == second.output_of("cat", "/when")
    waited = [line for line in author.progress + second.progress if line.startswith("waiting for ")]
    assert len(waited) == 1
