"""What every engine must do, whatever builds and keeps its images.

An engine's own test module imports these tests and offers three fixtures: `engine`, `made` (names
in it) and `base` (a small image in it, with a shell).
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fnbuild.build.image.engine import BuildRequest, Engine, StepError
from fnbuild.build.image.engines.references import registry_of
from fnbuild.errors import BuildError, InputError
from tests.engine import Made, Registry, until

Build = Callable[..., str]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


@pytest.fixture
def lines() -> list[str]:
    """What the engine said of its progress."""
    return []


@pytest.fixture
def build(engine: Engine, made: Made, context: Path, lines: list[str]) -> Build:
    """Builds a Dockerfile's text; options are those of `BuildRequest`."""

    def build(text: str, **options: object) -> str:
        file = context / "Dockerfile"
        file.write_text(text)
        request = BuildRequest(context, file, options.pop("tags", ()), **options)  # type: ignore[arg-type]
        return engine.build(request, lines.append)

    return build


@pytest.fixture
def private(engine: Engine, made: Made, base: str, login_registry: Registry) -> str:
    """An image with a name in the registry that asks who is there."""
    reference = made.image("private", f"{login_registry.address}/")
    engine.tag(base, reference)
    return reference


def test_an_image_says_of_itself_what_its_dockerfile_said(engine, made, base, build):
    reference = made.image("facts")
    identity = build(
        f"FROM {base}\n{made.label}\n"
        'ENV A=1 B="two words"\nUSER 1000\nWORKDIR /srv\nSHELL ["/bin/sh", "-ec"]\n'
        'ENTRYPOINT ["/bin/cat"]\nCMD ["/etc/hostname"]\n',
        tags=(reference,),
        labels={"purpose": "a test, with = and spaces"},
    )
    facts = engine.inspect(reference)
    assert facts == engine.inspect(identity)
    assert facts.id == identity
    assert facts.env["A"] == "1"
    assert facts.env["B"] == "two words"
    assert (facts.user, facts.workdir) == ("1000", "/srv")
    assert (facts.entrypoint, facts.command) == (("/bin/cat",), ("/etc/hostname",))
    assert facts.shell == ("/bin/sh", "-ec")
    assert facts.labels["purpose"] == "a test, with = and spaces"
    assert facts.layers[0] == engine.inspect(base).layers[0]
    assert facts.size >= engine.inspect(base).size > 1_000_000
    assert facts.architecture in ("amd64", "arm64")


def test_an_image_that_is_not_there_is_none(engine, made):
    assert engine.inspect(made.name("missing")) is None
    assert engine.remove(made.name("missing")) is False


def test_the_failing_run_is_named_with_its_own_output(engine, made, base, build, lines):
    with pytest.raises(StepError) as caught:
        build(
            f"# a comment\nFROM {base}\n{made.label}\nENV A=1\nRUN echo of another step\n"
            "RUN echo to stdout && \\\n    # why\n    echo to stderr >&2 && \\\n    exit 3\n"
            "RUN echo never\n"
        )
    error = caught.value
    assert error.step == 4
    assert error.instruction == "RUN echo to stdout && echo to stderr >&2 && exit 3"
    # The classic builder brings the two by different ways.
    assert sorted(error.detail.splitlines()) == ["to stderr", "to stdout"]
    assert error.message.startswith("step 5/6  RUN echo to stdout && ")
    assert error.message.endswith(" ended with status 3")
    assert "step 4/6  RUN echo of another step" in lines
    assert "  of another step" in lines
    assert lines.index(
        "step 5/6  RUN echo to stdout && echo to stderr >&2 && exit 3"
    ) < lines.index("  to stdout")
    assert not any("never" in line for line in lines)


def test_only_the_end_of_a_long_output_is_kept(engine, made, base, build):
    count = "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; exit 1"
    with pytest.raises(StepError) as caught:
        build(f"FROM {base}\n{made.label}\nRUN {count}\n")
    kept = caught.value.detail.splitlines()
    assert kept[-1] == "line 299"
    assert 20 <= len(kept) <= 40


def test_a_step_of_a_later_stage_is_counted_in_the_whole_file(engine, made, base, build):
    with pytest.raises(StepError) as caught:
        build(
            f"ARG BASE={base}\nFROM $BASE AS first\n{made.label}\nRUN echo one\n"
            f"FROM $BASE\n{made.label}\nENV A=1\nCOPY --from=first /bin/sh /tmp/sh\nRUN exit 4\n"
        )
    assert caught.value.step == 8
    assert caught.value.instruction == "RUN exit 4"


def test_a_copy_of_nothing_names_the_file(made, base, build):
    with pytest.raises(StepError) as caught:
        build(f"FROM {base}\n{made.label}\nCOPY not-there /tmp/\n")
    assert (caught.value.step, caught.value.instruction) == (2, "COPY not-there /tmp/")
    assert "not-there" in caught.value.message.partition("failed")[2]


def test_an_unknown_instruction_is_named(made, base, build):
    with pytest.raises(BuildError) as caught:
        build(f"FROM {base}\n{made.label}\nRUNN echo\n")
    assert "RUNN" in caught.value.message
    assert getattr(caught.value, "step", 2) == 2


def test_a_base_that_cannot_be_had_is_named(build, made):
    with pytest.raises(StepError) as caught:
        build(f"FROM 127.0.0.1:1/{made.name('missing')}:1\n")
    assert caught.value.step == 0
    assert "the registry 127.0.0.1:1 cannot be reached" in caught.value.message


def test_nothing_is_fetched_where_that_is_forbidden(build, made, base):
    missing = f"127.0.0.1:1/{made.name('missing')}:1"
    with pytest.raises(BuildError, match="is not here, and nothing may be fetched"):
        build(f"FROM {base}\nCOPY --from={missing} /a /b\n", pull=False)
    assert build(f"FROM {base} AS first\nFROM first\n{made.label}\nENV A=2\n", pull=False)


def test_arguments_reach_the_build(engine, made, base, build):
    reference = made.image("arguments")
    build(
        f"FROM {base}\n{made.label}\nARG WORD=default\nENV WORD=$WORD\n",
        tags=(reference,),
        args={"WORD": 'it\'s $HOME; a "word"'},
    )
    assert engine.inspect(reference).env["WORD"] == 'it\'s $HOME; a "word"'


def test_a_second_build_comes_from_the_cache_unless_it_must_not(made, base, build, lines):
    text = f"FROM {base}\n{made.label}\nRUN echo working\n"
    first = build(text)
    assert lines.count("  working") == 1
    assert build(text) == first
    assert lines.count("  working") == 1
    assert lines.count("  from the cache") >= 1
    build(text, no_cache=True)
    assert lines.count("  working") == 2


def test_flags_of_the_user_are_handed_on(made, base, build, engine):
    reference = made.image("flags")
    build(f"FROM {base}\n{made.label}\n", tags=(reference,), flags=("--label", "mine=1"))
    assert engine.inspect(reference).labels["mine"] == "1"


def test_an_unknown_flag_is_the_users(made, base, build):
    with pytest.raises(BuildError, match=r"does not know a flag: .*--frobnicate"):
        build(f"FROM {base}\n", flags=("--frobnicate",))


def test_a_build_that_takes_too_long_is_ended(made, base, build):
    began = time.monotonic()
    with pytest.raises(BuildError, match=r"not built within 1 s, at step 3/3  RUN .*sleep 60"):
        build(f"FROM {base}\n{made.label}\nRUN echo waiting; sleep 60\n", timeout=1, no_cache=True)
    assert time.monotonic() - began < 20


def test_an_interrupt_ends_the_client(engine, made, base, context):
    file = context / "Dockerfile"
    mark = f"sleep 60.{int(made.token, 16)}"
    file.write_text(f"FROM {base}\n{made.label}\nRUN echo waiting; {mark}\n")

    def interrupt(line: str) -> None:
        if line.startswith("  waiting"):
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        engine.build(BuildRequest(context, file, ()), interrupt)
    assert time.monotonic() - began < 20
    until("the end of the client and of its step", lambda: not running(str(file), mark))


def test_a_program_runs_in_the_place_of_the_entrypoint(engine, made, base, build):
    reference = made.image("entrypoint")
    build(
        f'FROM {base}\n{made.label}\nENV WORD=hello\nENTRYPOINT ["/bin/sh", "-c", "exit 9"]\n',
        tags=(reference,),
    )
    ran = engine.run(reference, ["sh", "-c", "echo $WORD $0 $1; echo to stderr >&2; exit 5", "a b"])
    assert ran.status == 5
    assert ran.out == "hello a b\n"
    assert "to stderr" in ran.err


def test_a_program_that_is_not_there_is_127(engine, base):
    assert engine.run(base, ["nosuchprogram"]).status == 127
    assert engine.run(base, ["/nosuch/program", "-c", "x"]).status == 127


def test_a_program_that_does_not_end_is_ended_and_removed(engine, made, base):
    began = time.monotonic()
    with pytest.raises(BuildError, match="did not end within 1 s"):
        engine.run(base, ["sleep", "300"], timeout=1)
    assert time.monotonic() - began < 20
    assert "fnbuild-probe-" not in containers_of(engine, base)


def test_programs_run_beside_one_another(engine, base):
    outs: list[str] = []

    def run(number: int) -> None:
        outs.append(engine.run(base, ["sh", "-c", f"echo {number}"]).out)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outs) == ["0\n", "1\n", "2\n"]


def test_a_run_fetches_nothing(engine, made):
    with pytest.raises(BuildError, match="does not have the image"):
        engine.run(f"127.0.0.1:1/{made.name('missing')}:1", ["sh"])


def test_names_come_and_go(engine, made, base):
    other = made.image("other")
    engine.tag(base, other)
    assert engine.inspect(other).id == engine.inspect(base).id
    assert engine.remove(other) is True
    assert engine.inspect(other) is None
    assert engine.inspect(base) is not None


def test_an_archive_brings_an_image_back(engine, made, base, build, tmp_path):
    reference = made.image("saved")
    build(f"FROM {base}\n{made.label}\nENV SAVED={made.token}\n", tags=(reference,))
    archive = tmp_path / "image.tar"
    engine.save(reference, archive)
    engine.remove(reference)
    assert engine.inspect(reference) is None
    assert any(loaded.endswith(reference) for loaded in engine.load(archive))
    assert engine.inspect(reference).env["SAVED"] == made.token


def test_an_archive_that_does_not_fit_names_its_disk(engine, base, tiny_disk):
    with pytest.raises(BuildError, match=r"cannot be written to .*: no space left on device$"):
        engine.save(base, tiny_disk / "image.tar")


def test_what_is_no_archive_is_refused(engine, tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*missing\.tar"):
        engine.load(tmp_path / "missing.tar")
    (tmp_path / "text.tar").write_text("no archive")
    with pytest.raises((BuildError, InputError), match=r"text\.tar"):
        engine.load(tmp_path / "text.tar")


def test_the_history_says_who_made_each_layer(engine, made, base, build, context):
    (context / "big").write_bytes(b"x" * 300_000)
    reference = made.image("history")
    build(f"FROM {base}\n{made.label}\nENV A=1\nCOPY big /srv/big\n", tags=(reference,))
    history = engine.history(reference)
    assert "COPY" in history[0].created_by
    assert 250_000 < history[0].size < 400_000
    assert history[1].size == 0
    assert "ENV" in history[1].created_by
    assert sum(one.size for one in history) == pytest.approx(
        engine.inspect(reference).size, rel=0.2
    )


def test_an_image_goes_to_a_registry_and_comes_back(engine, made, base, plain_registry, lines):
    reference = made.image("pushed", f"{plain_registry.address}/")
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


def test_a_registry_that_is_not_there_is_named(engine, made, base):
    reference = made.image("unreachable", "127.0.0.1:1/")
    engine.tag(base, reference)
    with pytest.raises(BuildError) as caught:
        engine.push(reference, lambda _: None)
    assert caught.value.message.startswith(f"the image {reference} cannot be pushed: ")
    assert "the registry 127.0.0.1:1 cannot be reached" in caught.value.message


def test_an_image_that_the_registry_has_not(engine, made, plain_registry):
    reference = f"{plain_registry.address}/{made.name('missing')}:1"
    with pytest.raises(BuildError) as caught:
        engine.pull(reference, lambda _: None)
    assert caught.value.message.startswith(f"the image {reference} cannot be pulled: ")
    assert "has no such image" in caught.value.message


def test_credentials_come_from_dockers_configuration(engine, private, sign_in):
    sign_in()
    assert engine.push(private, lambda _: None).startswith("sha256:")
    engine.remove(private)
    engine.pull(private, lambda _: None)
    assert engine.inspect(private) is not None


@pytest.mark.parametrize("password", ["", "wrong-secret"])
def test_refused_credentials_name_the_registry(engine, private, sign_in, password):
    sign_in(password)
    said: list[str] = []
    with pytest.raises(BuildError) as caught:
        engine.push(private, said.append)
    error = caught.value
    registry = registry_of(private)
    assert error.message == (
        f"the image {private} cannot be pushed: the registry {registry} refuses these credentials,"
        " or there are none"
    )
    assert f"{engine.name} login {registry}" in error.hint
    assert "wrong-secret" not in f"{error.message}{error.detail}{error.hint}{said}"


def test_heredocs_work_where_the_engine_says_so(engine, made, base, build, lines):
    text = f"FROM {base}\n{made.label}\nRUN <<EOF\necho from a heredoc\nexit 7\nEOF\nRUN exit 8\n"
    with pytest.raises(BuildError) as caught:
        build(text)
    status = caught.value.message.rpartition(" ")[2]
    assert (status == "7" and "  from a heredoc" in lines) == engine.heredocs


def running(*words: str) -> bool:
    """Whether a program runs here with one of these words in its command."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return any(word in listed.stdout for word in words)


def containers_of(engine: Engine, image: str) -> str:
    words = ["containers"] if engine.name == "buildah" else ["ps", "--all", "--no-trunc"]
    done = subprocess.run([engine.program, *words], capture_output=True, text=True, check=True)
    return "\n".join(line for line in done.stdout.splitlines() if image.partition(":")[0] in line)
