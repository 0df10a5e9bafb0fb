"""Recorded output of builders: the progress and the failed step in it."""

from __future__ import annotations

import pytest

from fnbuild.builder.image.engine import StepError
from fnbuild.builder.image.engines.build_output import BuildahOutput, BuildKitOutput, ClassicOutput
from fnbuild.errors import BuildError, UnavailableError

DOCKERFILE = """\
FROM python:3.11 AS models
RUN echo fetching
FROM python:3.11
ENV A=1
RUN pip install torch && \\
    python -c 'import torch'
COPY artifacts/code/ /
"""

# Docker 28 with buildx.
BUILDKIT_NEW = """\
#0 building with "default" instance using docker driver
#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 190B done
#1 DONE 0.0s
#2 [internal] load metadata for docker.io/library/python:3.11
#2 DONE 0.4s
#4 [models 1/2] FROM docker.io/library/python:3.11@sha256:0a6d0f2b
#4 resolve docker.io/library/python:3.11@sha256:0a6d0f2b done
#4 DONE 0.0s
#5 [stage-1 2/3] RUN pip install torch &&     python -c 'import torch'
#6 [models 2/2] RUN echo fetching
#6 0.201 fetching
#5 0.352 Collecting torch
#5 1.100 ERROR: No matching distribution found for torch
#6 DONE 0.3s
#5 ERROR: process "/bin/sh -c pip install torch && python -c 'import torch'" did not complete \
successfully: exit code: 1
------
 > [stage-1 2/3] RUN pip install torch &&     python -c 'import torch':
0.352 Collecting torch
1.100 ERROR: No matching distribution found for torch
------
Dockerfile:5
--------------------
   4 |     ENV A=1
   5 | >>> RUN pip install torch && \\
   6 | >>>     python -c 'import torch'
   7 |     COPY artifacts/code/ /
--------------------
ERROR: failed to solve: process "/bin/sh -c pip install torch &&     python -c 'import torch'" did \
not complete successfully: exit code: 1
"""
# Docker 20.10.
BUILDKIT_OLD = """\
#2 [internal] load .dockerignore
#2 sha256:2b6a9e6d53b6d3042137a4931e4e745b7f41e650f461d7b0875852f6a071c549
#2 transferring context: 2B 0.0s done
#2 DONE 0.0s

#4 [models 1/2] FROM docker.io/library/python:3.11
#4 CACHED

#5 [stage-1 2/3] RUN pip install torch &&     python -c 'import torch'
#5 sha256:137158d3910f09aeca46f10327c4e0907011f33f8bf24322565f987e2a719db4
#5 0.352 Collecting torch
#5 1.100 ERROR: No matching distribution found for torch
#5 ERROR: executor failed running [/bin/sh -c pip install torch && python -c 'import torch']: \
exit code: 1
------
 > [stage-1 2/3] RUN pip install torch &&     python -c 'import torch':
------
executor failed running [/bin/sh -c pip install torch && python -c 'import torch']: exit code: 1
"""
CLASSIC = """\
DEPRECATED: The legacy builder is deprecated and will be removed in a future release.
            Install the buildx component to build images with BuildKit:
            https://docs.docker.com/go/buildx/

Sending build context to Docker daemon  3.119kB
Step 1/8 : FROM python:3.11 AS models
 ---> f1c11f8f536a
Step 2/8 : RUN echo fetching
 ---> Using cache
 ---> b809d8108a49
Step 3/8 : FROM python:3.11
 ---> f1c11f8f536a
Step 4/8 : ENV A=1
 ---> Running in 7305d7c8a41f
Removing intermediate container 7305d7c8a41f
 ---> b809d8108a49
Step 5/8 : RUN pip install torch &&     python -c 'import torch'
 ---> Running in 465d557cc541
Collecting torch
ERROR: No matching distribution found for torch
Removing intermediate container 465d557cc541
The command '/bin/sh -c pip install torch &&     python -c 'import torch'' returned a non-zero \
code: 1
"""
PODMAN = """\
[1/2] STEP 1/2: FROM python:3.11 AS models
[1/2] STEP 2/2: RUN echo fetching
fetching
--> 7dfbba67a47
[2/2] STEP 1/4: FROM python:3.11
[2/2] STEP 2/4: ENV A=1
--> Using cache 8ffbba67a47
[2/2] STEP 3/4: RUN pip install torch &&     python -c 'import torch'
Collecting torch
ERROR: No matching distribution found for torch
Error: building at STEP "RUN pip install torch &&     python -c 'import torch'": while running \
runtime: exit status 1
"""


def _follow(dialect, recorded, text=DOCKERFILE, offline=False):
    messages = []
    steps = dialect(text, messages.append, offline=offline)
    for line in recorded.splitlines():
        steps.feed(line)
    return steps.failure("docker"), messages


@pytest.mark.parametrize(
    ("dialect", "recorded"),
    [
        (BuildKitOutput, BUILDKIT_NEW),
        (BuildKitOutput, BUILDKIT_OLD),
        (ClassicOutput, CLASSIC),
        (BuildahOutput, PODMAN),
    ],
)
def test_all_builders_report_a_failure_alike(dialect, recorded):
    error, messages = _follow(dialect, recorded)
    assert isinstance(error, StepError)
    assert error.step == 4
    assert error.instruction == "RUN pip install torch && python -c 'import torch'"
    assert error.message == (
        "step 5/6  RUN pip install torch && python -c 'import torch' ended with status 1"
    )
    assert error.detail == ("Collecting torch\nERROR: No matching distribution found for torch")
    step = "step 5/6  RUN pip install torch && python -c 'import torch'"
    assert messages[messages.index(step) :].count("  Collecting torch") == 1
    assert messages.count(step) == 1
    assert not [line for line in messages if "sha256" in line or "--->" in line or "DONE" in line]


def test_an_error_written_by_the_step_stays_in_its_output():
    recorded = (
        "STEP 1/2: FROM a\nSTEP 2/2: RUN x\nError: of the program\nmore of it\n"
        'time="2026" level=error msg="unmounting"\n'
        "Error: 2 errors occurred:\n\t* write: no space left on device\n\t* another\n"
    )
    error, _ = _follow(BuildahOutput, recorded, "FROM a\nRUN x\n")
    assert error.detail == "Error: of the program\nmore of it"
    assert error.message == "step 2/2  RUN x failed: the disk of docker is full"


LINES = "".join(f"{number}\n" for number in range(1, 61))
CLOSING = "The command '/bin/sh -c seq 1 60\ncp a /b' returned a non-zero code: 1\n"


def test_stderr_that_arrives_before_its_step_is_kept():
    recorded = (
        "Step 1/2 : FROM a\n ---> 1\nStep 2/2 : RUN x\n ---> Running in 2\n"
        "\x1b[91mcp: \x1b[0m\x1b[91mcannot stat 'a'\n"
        f"\x1b[0m{LINES}Removing intermediate container 2\n{CLOSING}"
    )
    error, messages = _follow(ClassicOutput, recorded, "FROM a\nRUN x\n")
    shown = error.detail.splitlines()
    assert shown[:2] == ["cp: cannot stat 'a'", "…"]
    assert (shown[2], shown[-1]) == ("21", "60")
    assert messages.count("  cp: cannot stat 'a'") == 1


@pytest.mark.parametrize("builder", ["buildkit", "buildah"])
def test_an_early_error_without_a_later_stream_is_kept(builder):
    output = ["cp: cannot stat 'a': No such file", *map(str, range(1, 61))]
    if builder == "buildkit":
        lines = [f"#5 0.1 {line}" for line in output]
        recorded = "\n".join(["#5 [2/2] RUN x", *lines, "#5 ERROR: x: exit code: 1"])
        error, _ = _follow(BuildKitOutput, recorded, "FROM a\nRUN x\n")
    else:
        closing = 'Error: building at STEP "RUN x": exit status 1'
        recorded = "\n".join(["STEP 1/2: FROM a", "STEP 2/2: RUN x", *output, closing])
        error, _ = _follow(BuildahOutput, recorded, "FROM a\nRUN x\n")
    shown = error.detail.splitlines()
    assert shown[:2] == ["cp: cannot stat 'a': No such file", "…"]
    assert shown[-1] == "60"


def test_stderr_that_arrives_in_time_is_shown_once():
    recorded = (
        f"Step 1/2 : FROM a\nStep 2/2 : RUN x\n\x1b[91mearly\n\x1b[0m{LINES}"
        f"\x1b[91mlate\n\x1b[0mRemoving intermediate container 2\n{CLOSING}"
    )
    error, _ = _follow(ClassicOutput, recorded, "FROM a\nRUN x\n")
    shown = error.detail.splitlines()
    assert (shown[0], shown[-1], shown.count("late")) == ("22", "late", 1)


def test_a_final_message_of_several_lines_is_not_output():
    recorded = (
        "Step 1/2 : FROM a\nStep 2/2 : RUN x\n ---> Running in 2\nTests failed: 9\n"
        f"Removing intermediate container 2\n{CLOSING}"
    )
    error, messages = _follow(ClassicOutput, recorded, "FROM a\nRUN x\n")
    assert error.detail == "Tests failed: 9"
    assert error.message.endswith("ended with status 1")
    assert messages[-1] == "  Tests failed: 9"


def test_the_status_is_that_of_the_engine():
    recorded = "STEP 1/2: FROM a\nSTEP 2/2: RUN x\nError: x 'exit status 9': exit status 1\n"
    error, _ = _follow(BuildahOutput, recorded, "FROM a\nRUN x\n")
    assert error.message.endswith("ended with status 1")


def test_the_text_of_the_dockerfile_wins_over_shifted_numbers():
    # The base image's triggers come before the file's own second instruction.
    recorded = (
        "#5 [2/4] RUN echo of the base\n#6 [3/4] COPY of the base\n#7 [4/4] RUN exit 1\n"
        '#7 ERROR: process "/bin/sh -c exit 1" did not complete successfully: exit code: 1\n'
    )
    error, _ = _follow(BuildKitOutput, recorded, "FROM a\nENV B=1\nRUN exit 1\n")
    assert (error.step, error.instruction) == (2, "RUN exit 1")


def test_a_heredoc_is_one_instruction():
    recorded = (
        "#5 [2/2] RUN <<EOF (echo a...)\n#5 0.1 a\n"
        '#5 ERROR: process "/bin/sh -c echo a" did not complete successfully: exit code: 2\n'
    )
    error, _ = _follow(BuildKitOutput, recorded, "FROM a\nUSER b\nRUN <<EOF\necho a\nEOF\n")
    assert (error.step, error.instruction) == (2, "RUN <<EOF")


@pytest.mark.parametrize(
    ("status", "output", "offline", "hint"),
    [
        (137, "Killed", False, "memory"),
        (127, "/bin/sh: 1: pip: not found", False, "lacks a program"),
        (1, "Temporary failure in name resolution", True, "without --offline"),
        (1, "Temporary failure in name resolution", False, None),
        (1, "OSError: [Errno 28] No space left on device", False, "system df"),
        (1, "SyntaxError", False, None),
    ],
)
def test_known_failures_have_a_remedy(status, output, offline, hint):
    recorded = f"STEP 1/2: FROM a\nSTEP 2/2: RUN x\n{output}\nError: while: exit status {status}\n"
    error, _ = _follow(BuildahOutput, recorded, "FROM a\nRUN x\n", offline)
    assert (hint in error.hint) if hint else error.hint is None


@pytest.mark.parametrize(
    ("dialect", "recorded", "message"),
    [
        (
            BuildKitOutput,
            "Dockerfile:2\n--------\n   1 |     FROM a\n   2 | >>> RUNN x\n--------\n"
            "ERROR: failed to solve: dockerfile parse error on line 2: unknown instruction: RUNN\n",
            "dockerfile parse error on line 2: unknown instruction: RUNN",
        ),
        (
            ClassicOutput,
            "Error response from daemon: dockerfile parse error line 2: unknown instruction:"
            " RUNN\n",
            "dockerfile parse error line 2: unknown instruction: RUNN",
        ),
    ],
)
def test_an_unparsable_line_is_a_step(dialect, recorded, message):
    error, _ = _follow(dialect, recorded, "FROM a\nRUNN x\n")
    assert (error.step, error.instruction) == (1, "RUNN x")
    assert message in error.message


def test_a_lost_engine_is_not_the_failure_of_a_step():
    recorded = (
        "Step 1/1 : RUN x\nCannot connect to the Docker daemon at unix:///x. Is the docker daemon"
        " running?\n"
    )
    error, _ = _follow(ClassicOutput, recorded, "RUN x\n")
    assert type(error) is UnavailableError


def test_a_failed_build_without_output_is_an_error():
    for dialect in (ClassicOutput, BuildKitOutput, BuildahOutput):
        error, _ = _follow(dialect, "")
        assert type(error) is BuildError
        assert error.message == "the image cannot be built: no reason given"


def test_a_timeout_names_the_step_that_was_running():
    steps = BuildahOutput("FROM a\nRUN sleep 60\n", lambda _: None)
    assert steps.timeout_error(1.5).message == "the image was not built within 1.5 s"
    for line in ("STEP 1/2: FROM a", "STEP 2/2: RUN sleep 60", "sleeping"):
        steps.feed(line)
    error = steps.timeout_error(1.5)
    assert error.message.endswith("within 1.5 s, at step 2/2  RUN sleep 60")
    assert error.detail == "sleeping"


def test_long_lines_are_truncated_in_progress_only():
    line = "x" * 500
    recorded = f"STEP 1/2: FROM a\nSTEP 2/2: RUN {line}\n{line}\nError: x: exit status 1\n"
    error, messages = _follow(BuildahOutput, recorded, f"FROM a\nRUN {line}\n")
    assert max(map(len, messages)) < 200
    assert error.detail == line
    assert len(error.message) < 200
