"""A worker whose handler has broken its descriptors is replaced after its reply."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime import interpreters

pytestmark = pytest.mark.system

HANDLER = """
import os
import resource
import sys

LEAKED = []


def leak():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    while True:
        LEAKED.append(open("/dev/null"))


def borrow():
    # All of these are closed with the exception.
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    mine = []
    while True:
        mine.append(open("/dev/null"))


def close_stdout():
    sys.stdout.close()
    print("lost")


def close_descriptor():
    os.close(1)
    print("lost", flush=True)


def close_all():
    os.closerange(3, 256)
    raise ValueError("after all were closed")


def answer_500():
    try:
        leak()
    except OSError as error:
        return 500, "sorry: %s" % error


def usual():
    raise ValueError("an error like any other")


def handler(context, event):
    name = event.path.strip("/")
    return globals()[name]() if name else "fine"
"""

SPOILED = {
    "leak": ("Too many open files", "the handler has used up its descriptors"),
    "close_stdout": ("I/O operation on closed file", "the handler closed sys.stdout"),
    "close_descriptor": ("Bad file descriptor", "the handler closed descriptor 1 (stdout)"),
    "answer_500": ("sorry: ", "the handler has used up its descriptors"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_the_worker_is_replaced_after_its_reply(serve: Any, case: str) -> None:
    function = serve(HANDLER)
    error, reason = SPOILED[case]
    for number in (1, 2):
        answer = function.send(path="/" + case)
        assert answer.status == 500
        assert error in answer.body.decode()
        # The next request waits for the new worker.
        assert function.send().body == b"fine"
        assert function.status()["workers"][0]["restarts"] == number
    function.await_record("worker 0 is replaced: " + reason, level="error")


@pytest.mark.parametrize("case", ["usual", "borrow"])
def test_an_error_that_leaves_no_descriptor_keeps_the_worker(serve: Any, case: str) -> None:
    function = serve(HANDLER)
    assert function.send(path="/" + case).status == 500
    assert function.send().body == b"fine"
    assert function.status()["workers"][0]["restarts"] == 0


def test_a_worker_that_lost_its_connection_reports_it(serve: Any) -> None:
    function = serve(HANDLER)
    answer = function.send(path="/close_all")
    assert answer.status == 500
    assert "worker 0 ended itself" in answer.body.decode()
    function.await_record("The handler closed the socket between this worker and the processor.")
    assert function.send().body == b"fine"


@pytest.mark.parametrize("version", interpreters.few())
def test_every_interpreter(serve: Any, version: str) -> None:
    function = serve(HANDLER, version=version)
    for case in ("leak", "close_descriptor"):
        assert function.send(path="/" + case).status == 500
        assert function.send().body == b"fine"
    assert function.status()["workers"][0]["restarts"] == 2
