"""The process of an engine's client: its output is complete, and it ends with the caller."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fnbuild.builder.image.engines import client
from tests.engine import until

pytestmark = pytest.mark.system

_TIMES = 200
_BOTH = "i=0; while [ $i -lt 60 ]; do echo $i; i=$((i+1)); done; echo to stderr >&2; printf last"


def test_all_output_of_a_client_that_ends_at_once_is_read() -> None:
    expected = [*map(str, range(60)), "to stderr", "last"]
    for _ in range(_TIMES):
        lines: list[str] = []
        assert client.run_streaming(["sh", "-c", _BOTH], lines.append, {}) == 0
        assert lines == expected


def test_captured_output_is_complete() -> None:
    for _ in range(20):
        ran = client.run_captured(["sh", "-c", _BOTH + "; exit 3"], {})
        assert (ran.status, ran.err) == (3, "to stderr\n")
        assert ran.out.split() == [*map(str, range(60)), "last"]


_WAITING = """
import sys
from fnbuild import cli
from fnbuild.builder.image.engines import client
from fnbuild.cli import app
digits, ignored = sys.argv[1:3]
script = f"trap '' {ignored}; sleep 61.{digits} & echo going; while :; do wait; done"
words = ["sh", "-c", script]
def command(arguments):
    if arguments[2] == "stream":
        client.run_streaming(words, lambda line: print(line, flush=True), {})
    else:
        print("going", flush=True)
        client.run_captured(words, {})
app.run = command
cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("how", ["stream", "capture"])
def test_a_signal_ends_the_client_and_its_descendants(how: str, number: int) -> None:
    mark, process = _start(how)
    process.send_signal(number)
    _, output = process.communicate(timeout=20)
    assert (process.returncode, output) == (130, "interrupted\n")
    assert not _running(mark)


_STARTING = """
import os, signal, subprocess, sys, time
from fnbuild import cli
from fnbuild.builder.image.engines import client
from fnbuild.cli import app
popen = subprocess.Popen
def started(*given, **options):
    made = popen(*given, **options)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.3)
    return made
subprocess.Popen = started
app.run = lambda arguments: client.run_captured(["sleep", f"61.{arguments[0]}"], {})
cli.main()
"""


def test_a_signal_during_the_start_leaves_no_client() -> None:
    digits = str(int.from_bytes(os.urandom(4), "big"))
    done = subprocess.run(
        [sys.executable, "-c", _STARTING, digits], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert not _running(f"61.{digits}")


def test_a_second_signal_kills_the_client() -> None:
    mark, process = _start("stream", "TERM")
    process.send_signal(signal.SIGTERM)
    timer = threading.Timer(0.2, process.send_signal, [signal.SIGTERM])
    timer.start()
    process.communicate(timeout=20)
    timer.join()
    assert process.returncode == 130
    until("the end of the client", lambda: not _running(mark))


def _start(how: str, ignored: str = "USR1") -> tuple[str, subprocess.Popen[str]]:
    """Start a program that waits for a client, which waits for one with the mark in its command.

    The client ignores the signal `ignored`.
    """
    digits = str(int.from_bytes(os.urandom(4), "big"))
    process = subprocess.Popen(
        [sys.executable, "-c", _WAITING, digits, ignored, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "going\n"
    mark = f"61.{digits}"
    until("the start of the client", lambda: _running(mark))
    return mark, process


def _running(mark: str) -> bool:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in file.read_bytes():
                return True
        except OSError:
            continue
    return False
