"""Contract of engines: run, name, save, push and pull images."""

from __future__ import annotations

import subprocess
import tarfile
import threading
import time

import pytest

from fnbuild.builder.image.engine import Engine
from fnbuild.builder.image.engines.command_line import CommandLineEngine
from fnbuild.builder.image.references import registry_of
from fnbuild.errors import BuildError, InputError
from tests.engine import EngineResources, Registry


@pytest.fixture
def private(engine: Engine, resources: EngineResources, base: str, login_registry: Registry) -> str:
    """An image with a name in the registry that requires a login."""
    reference = resources.image("private", f"{login_registry.address}/")
    engine.tag(base, reference)
    return reference


def test_a_program_replaces_the_entrypoint(engine, resources, base, build):
    reference = resources.image("entrypoint")
    build(
        f'FROM {base}\n{resources.label}\nENV WORD=hello\nENTRYPOINT ["/bin/sh", "-c", "exit 9"]\n',
        tags=(reference,),
    )
    ran = engine.run(reference, ["sh", "-c", "echo $WORD $0 $1; echo to stderr >&2; exit 5", "a b"])
    assert ran.status == 5
    assert ran.out == "hello a b\n"
    assert "to stderr" in ran.err


def test_a_missing_program_has_status_127(engine, base):
    assert engine.run(base, ["nosuchprogram"]).status == 127
    assert engine.run(base, ["/nosuch/program", "-c", "x"]).status == 127


def test_a_program_beyond_its_timeout_is_killed_and_removed(engine, resources, base):
    began = time.monotonic()
    with pytest.raises(BuildError, match="did not end within 1 s"):
        engine.run(base, ["sleep", "300"], timeout=1)
    assert time.monotonic() - began < 100
    assert "fnbuild-probe-" not in containers_of(engine, base)


def test_programs_run_concurrently(engine, base):
    outs: list[str] = []

    def run(number: int) -> None:
        outs.append(engine.run(base, ["sh", "-c", f"echo {number}"]).out)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outs) == ["0\n", "1\n", "2\n"]


def test_running_a_missing_image_fetches_nothing(engine, resources):
    with pytest.raises(BuildError, match="does not have the image"):
        engine.run(f"127.0.0.1:1/{resources.name('missing')}:1", ["sh"])


def test_names_are_added_and_removed(engine, resources, base):
    other = resources.image("other")
    engine.tag(base, other)
    assert engine.inspect(other).id == engine.inspect(base).id
    assert engine.remove(other) is True
    assert engine.inspect(other) is None
    assert engine.inspect(base) is not None


def test_a_named_image_is_not_removed_by_its_id(engine, resources, base, build):
    reference = resources.image("named")
    built = build(
        f"FROM {base}\n{resources.label}\nENV NAMED={resources.token}\n", tags=(reference,)
    )
    assert engine.remove(built) is False
    assert engine.inspect(reference).id == built


def test_images_are_listed_by_label_with_all_their_names(engine, resources, base, build):
    names = {resources.image("labelled", tag=tag) for tag in ("1", "2")}
    label = f"fnbuild.test.word={resources.token}"
    assert engine.images(label) == []
    lines = f"FROM {base}\n{resources.label}\nLABEL {label}\n"
    built = build(lines, tags=tuple(sorted(names)))
    [image] = engine.images(label)
    assert image.id == built
    assert {name.removeprefix("localhost/") for name in image.names} == names
    for name in names:
        engine.remove(name)
    unnamed = [listed_image for listed_image in engine.images(label) if listed_image.names]
    assert unnamed == []


def test_an_image_is_restored_from_an_archive(engine, resources, base, build, tmp_path):
    reference = resources.image("saved")
    build(f"FROM {base}\n{resources.label}\nENV SAVED={resources.token}\n", tags=(reference,))
    archive = tmp_path / "image.tar"
    engine.save(reference, archive)
    engine.remove(reference)
    assert engine.inspect(reference) is None
    assert any(loaded.endswith(reference) for loaded in engine.load(archive))
    assert engine.inspect(reference).env["SAVED"] == resources.token


def test_a_full_disk_while_saving_is_reported(engine, base, tiny_disk):
    with pytest.raises(BuildError, match=r"cannot be written to .*: no space left on device$"):
        engine.save(base, tiny_disk / "image.tar")


def test_a_file_that_is_not_an_archive_is_refused(engine, tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*missing\.tar"):
        engine.load(tmp_path / "missing.tar")
    (tmp_path / "text.tar").write_text("no archive")
    (tmp_path / "empty.tar").write_bytes(b"")
    with tarfile.open(tmp_path / "code.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "text.tar", "code/text")
    for name in ("text.tar", "empty.tar", "code.tar.gz"):
        with pytest.raises(InputError) as caught:
            engine.load(tmp_path / name)
        assert f"{tmp_path / name} cannot be loaded as an image: it is " in caught.value.message
        assert "docker save" in caught.value.hint


def test_a_truncated_archive_is_refused(engine, resources, base, tmp_path):
    complete, part = tmp_path / "whole.tar", tmp_path / "part.tar"
    engine.save(base, complete)
    part.write_bytes(complete.read_bytes()[:200_000])
    with pytest.raises(InputError, match=r"part\.tar cannot be loaded as an image: "):
        engine.load(part)


def test_the_folder_of_an_archive_must_exist(engine, base, tmp_path):
    with pytest.raises(InputError, match="there is no folder") as caught:
        engine.save(base, tmp_path / "a folder" / "image.tar")
    assert caught.value.hint == f"make it: `mkdir -p '{tmp_path}/a folder'`"
    with pytest.raises(InputError, match="it is a folder"):
        engine.save(base, tmp_path)


def test_the_history_has_the_instruction_of_each_layer(engine, resources, base, build, context):
    (context / "big").write_bytes(b"x" * 300_000)
    reference = resources.image("history")
    build(f"FROM {base}\n{resources.label}\nENV A=1\nCOPY big /srv/big\n", tags=(reference,))
    history = engine.history(reference)
    assert "COPY" in history[0].created_by
    assert 250_000 < history[0].size < 400_000
    assert history[1].size == 0
    assert "ENV" in history[1].created_by
    assert sum(layer.size for layer in history) == pytest.approx(
        engine.inspect(reference).size, rel=0.2
    )


def test_an_image_is_pushed_and_pulled(engine, resources, base, plain_registry, lines):
    reference = resources.image("pushed", f"{plain_registry.address}/")
    assert registry_of(reference) == plain_registry.address
    engine.tag(base, reference)
    digest = engine.push(reference, lines.append)
    assert digest.startswith("sha256:")
    assert len(digest) == 71
    assert any(line.startswith("  ") for line in lines)
    identity = engine.inspect(reference).id
    engine.remove(reference)
    assert engine.inspect(reference) is None
    engine.pull(f"{reference.rpartition(':')[0]}@{digest}", lines.append)
    engine.pull(reference, lines.append)
    assert engine.inspect(reference).id == identity
    call_by_digest = f"{reference.rpartition(':')[0]}@{digest}"
    engine.remove(call_by_digest)


def test_an_unreachable_registry_is_reported(engine, resources, base):
    reference = resources.image("unreachable", "127.0.0.1:1/")
    engine.tag(base, reference)
    with pytest.raises(BuildError) as caught:
        engine.push(reference, lambda _: None)
    assert caught.value.message.startswith(f"the image {reference} cannot be pushed: ")
    assert "the registry 127.0.0.1:1 cannot be reached" in caught.value.message


def test_a_missing_image_in_the_registry_is_reported(engine, resources, plain_registry):
    reference = f"{plain_registry.address}/{resources.name('missing')}:1"
    with pytest.raises(BuildError) as caught:
        engine.pull(reference, lambda _: None)
    assert caught.value.message.startswith(f"the image {reference} cannot be pulled: ")
    assert "has no such image" in caught.value.message


def test_credentials_are_read_from_dockers_configuration(engine, private, sign_in):
    sign_in()
    assert engine.push(private, lambda _: None).startswith("sha256:")
    engine.remove(private)
    engine.pull(private, lambda _: None)
    assert engine.inspect(private) is not None


@pytest.mark.parametrize("password", ["", "wrong-secret"])
def test_refused_credentials_name_the_registry(engine, private, sign_in, password):
    sign_in(password)
    messages: list[str] = []
    with pytest.raises(BuildError) as caught:
        engine.push(private, messages.append)
    error = caught.value
    registry = registry_of(private)
    assert error.message == (
        f"the image {private} cannot be pushed: the registry {registry} refuses these credentials,"
        " or there are none"
    )
    assert f"{engine.name} login {registry}" in error.hint
    assert "wrong-secret" not in f"{error.message}{error.detail}{error.hint}{messages}"


def containers_of(engine: CommandLineEngine, image: str) -> str:
    command = ["containers"] if engine.name == "buildah" else ["ps", "--all", "--no-trunc"]
    done = subprocess.run([engine.program, *command], capture_output=True, text=True, check=True)
    return "\n".join(line for line in done.stdout.splitlines() if image.partition(":")[0] in line)
