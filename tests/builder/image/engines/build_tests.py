"""Contract of engines: builds."""

from __future__ import annotations

import subprocess
import time

import pytest

from fnbuild.builder.image.engine import BuildRequest, StepError
from fnbuild.errors import BuildError
from tests.engine import until


def test_inspecting_an_image_returns_its_dockerfile_settings(engine, resources, base, build):
    reference = resources.image("facts")
    identity = build(
        f"FROM {base}\n{resources.label}\n"
        'ENV A=1 B="two words"\nUSER 1000\nWORKDIR /srv\nSHELL ["/bin/sh", "-ec"]\n'
        'ENTRYPOINT ["/bin/cat"]\nCMD ["/etc/hostname"]\n'
        'LABEL purpose="a test, with = and spaces"\n',
        tags=(reference,),
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


def test_inspecting_a_missing_image_returns_none(engine, resources):
    assert engine.inspect(resources.name("missing")) is None
    assert engine.remove(resources.name("missing")) is False


def test_a_failing_run_is_reported_with_its_output(engine, resources, base, build, lines):
    with pytest.raises(StepError) as caught:
        build(
            f"# a comment\nFROM {base}\n{resources.label}\nENV A=1\nRUN echo of another step\n"
            "RUN echo to stdout && \\\n    # why\n    echo to stderr >&2 && \\\n    exit 3\n"
            "RUN echo never\n"
        )
    error = caught.value
    assert error.step == 4
    assert error.instruction == "RUN echo to stdout && echo to stderr >&2 && exit 3"
    # The classic builder writes the two to different streams.
    assert sorted(error.detail.splitlines()) == ["to stderr", "to stdout"]
    assert error.message.startswith("step 5/6  RUN echo to stdout && ")
    assert error.message.endswith(" ended with status 3")
    assert "step 4/6  RUN echo of another step" in lines
    assert "  of another step" in lines
    assert lines.index(
        "step 5/6  RUN echo to stdout && echo to stderr >&2 && exit 3"
    ) < lines.index("  to stdout")
    assert not any("never" in line for line in lines)


def test_only_the_end_of_long_output_is_kept(engine, resources, base, build):
    count = "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; exit 1"
    with pytest.raises(StepError) as caught:
        build(f"FROM {base}\n{resources.label}\nRUN {count}\n")
    kept = caught.value.detail.splitlines()
    assert kept[-1] == "line 299"
    assert 20 <= len(kept) <= 40


def test_a_failing_command_is_reported_despite_a_concurrent_fast_one(base, build, resources, lines):
    # In one write: BuildKit may put a line of stdout between the parts of a message.
    message = "cat: /no/such/file: No such file"
    command = (
        f"i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i+1)); done; echo '{message}' >&2; exit 1"
    )
    for _ in range(3):
        lines.clear()
        with pytest.raises(StepError) as caught:
            build(f'FROM {base}\n{resources.label}\nRUN ["sh", "-c", "{command}"]\n')
        assert message in caught.value.detail
        assert caught.value.detail.count("line 59") == 1
        assert not any("returned a non-zero code" in line for line in lines)


def test_steps_of_later_stages_are_numbered_in_the_whole_file(engine, resources, base, build):
    with pytest.raises(StepError) as caught:
        build(
            f"ARG BASE={base}\nFROM $BASE AS first\n{resources.label}\nRUN echo one\n"
            f"FROM $BASE\n{resources.label}\nENV A=1\n"
            "COPY --from=first /bin/sh /tmp/sh\nRUN exit 4\n"
        )
    assert caught.value.step == 8
    assert caught.value.instruction == "RUN exit 4"


def test_a_copy_of_a_missing_file_names_it(resources, base, build):
    with pytest.raises(StepError) as caught:
        build(f"FROM {base}\n{resources.label}\nCOPY not-there /tmp/\n")
    assert (caught.value.step, caught.value.instruction) == (2, "COPY not-there /tmp/")
    assert "not-there" in caught.value.message.partition("failed")[2]


def test_an_unknown_instruction_is_reported(resources, base, build):
    with pytest.raises(BuildError) as caught:
        build(f"FROM {base}\n{resources.label}\nRUNN echo\n")
    assert "RUNN" in caught.value.message
    assert getattr(caught.value, "step", 2) == 2


def test_an_unavailable_base_image_is_reported(build, resources):
    with pytest.raises(StepError) as caught:
        build(f"FROM 127.0.0.1:1/{resources.name('missing')}:1\n")
    assert caught.value.step == 0
    assert "the registry 127.0.0.1:1 cannot be reached" in caught.value.message


def test_a_build_without_pulls_fetches_nothing(build, resources, base):
    missing = f"127.0.0.1:1/{resources.name('missing')}:1"
    with pytest.raises(BuildError, match="is not available, and pulling is disabled"):
        build(f"FROM {base}\nCOPY --from={missing} /a /b\n", pull=False)
    assert build(f"FROM {base} AS first\nFROM first\n{resources.label}\nENV A=2\n", pull=False)


def test_build_arguments_are_passed(engine, resources, base, build):
    reference = resources.image("arguments")
    build(
        f"FROM {base}\n{resources.label}\nARG WORD=default\nENV WORD=$WORD\n",
        tags=(reference,),
        args={"WORD": 'it\'s $HOME; a "word"'},
    )
    assert engine.inspect(reference).env["WORD"] == 'it\'s $HOME; a "word"'


def test_a_second_build_uses_the_cache_unless_disabled(resources, base, build, lines):
    text = f"FROM {base}\n{resources.label}\nRUN echo working\n"
    first = build(text)
    assert lines.count("  working") == 1
    assert build(text) == first
    assert lines.count("  working") == 1
    assert lines.count("  from the cache") >= 1
    build(text, no_cache=True)
    assert lines.count("  working") == 2


def test_user_flags_are_passed_to_the_engine(resources, base, build, engine):
    reference = resources.image("flags")
    build(f"FROM {base}\n{resources.label}\n", tags=(reference,), flags=("--label", "mine=1"))
    assert engine.inspect(reference).labels["mine"] == "1"


def test_an_unknown_flag_is_the_users_error(resources, base, build):
    with pytest.raises(BuildError, match=r"does not know a flag: .*--frobnicate"):
        build(f"FROM {base}\n", flags=("--frobnicate",))


def test_a_build_beyond_its_timeout_is_ended(resources, base, build):
    began = time.monotonic()
    with pytest.raises(BuildError, match="not built within 1 s"):
        build(
            f"FROM {base}\n{resources.label}\nRUN echo waiting; sleep 60\n",
            timeout=1,
            no_cache=True,
        )
    assert time.monotonic() - began < 45


def test_an_interrupt_ends_the_client(engine, resources, base, context):
    file = context / "Dockerfile"
    mark = f"sleep 60.{int(resources.token, 16)}"
    file.write_text(f"FROM {base}\n{resources.label}\nRUN echo waiting; {mark}\n")

    def interrupt(line: str) -> None:
        if line.startswith("  waiting"):
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        engine.build(BuildRequest(context, file, ()), interrupt)
    assert time.monotonic() - began < 45
    until("the end of the client and of its step", lambda: not running(str(file), mark))


def test_heredocs_work_if_the_engine_supports_them(engine, resources, base, build, lines):
    text = (
        f"FROM {base}\n{resources.label}\nRUN <<EOF\necho from a heredoc\nexit 7\nEOF\nRUN exit 8\n"
    )
    with pytest.raises(BuildError) as caught:
        build(text)
    status = caught.value.message.rpartition(" ")[2]
    assert (status == "7" and "  from a heredoc" in lines) == engine.supports_heredocs


def running(*fragments: str) -> bool:
    """Return True if a program runs on this machine with one of these words in its command."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return any(word in listed.stdout for word in fragments)
