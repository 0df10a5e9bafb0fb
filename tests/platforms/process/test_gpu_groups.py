"""GPU groups of functions that are processes of this machine."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fnbuild.errors import InputError
from fnbuild.platforms.process import ProcessPlatform
from tests.platforms.group_members import annotate, sleep_state
from tests.platforms.process.author import NAMESPACE, Author, invoke, wait_for

pytestmark = pytest.mark.system


SLOW = """
import time


def handler(context, event):
    time.sleep(float(event.path.strip("/") or 0))
    return "slow"
"""


def states(platform: ProcessPlatform, *names: str) -> list[str]:
    return [sleep_state(platform.deployment(NAMESPACE, name)) for name in names]


def test_functions_take_turns_and_show_it(author: Author, platform: ProcessPlatform) -> None:
    first = author.deploy(annotate(author.write_code(SLOW, name="one"), gpu_group_awake="1"))
    second = author.deploy(annotate(author.write("two", name="two")))
    assert states(platform, "one", "two") == ["asleep", "awake"]
    assert invoke(first.http_port) == "slow"
    assert states(platform, "one", "two") == ["awake", "asleep"]
    assert invoke(second.http_port) == "two"
    # A new revision loads in its turn, as the old one has answered; then the old one ends.
    folder = annotate(author.write("zwei", name="two"))
    with ThreadPoolExecutor() as threads:
        threads.submit(invoke, first.http_port, "/2")
        assert wait_for(lambda: states(platform, "one") == ["awake"])
        again = author.deploy(folder)
    assert "waits for room in the GPU group models (place 1)" in author.progress
    assert invoke(again.http_port) == "zwei"
    sleep = platform.deployment(NAMESPACE, "one").sleep
    assert sleep is not None
    assert sleep.group is not None
    assert sleep.group.usage == "1 of 1 awake"
    assert sleep.group.description.startswith("GPU group models (1 of 1 awake): one asleep")
    # After a restart of the machine, nothing is loaded before it is called.
    platform.down()
    platform.up()
    assert wait_for(lambda: platform.deployment(NAMESPACE, "two").state == "ready")
    assert states(platform, "one", "two") == ["asleep", "asleep"]
    assert invoke(again.http_port) == "zwei"


def test_contradictions_are_refused_before_anything_runs(author: Author) -> None:
    first = {"gpu_group_memory": "1Gi", "gpu_memory": "700Mi", "gpu_group_permanent": "true"}
    author.deploy(annotate(author.write(name="one"), **first))
    cases = (
        ({"gpu_group_memory": "2Gi"}, "2147483648 contradicts nuclio/one, which sets 1073741824"),
        ({"gpu_memory": "500Mi"}, "its permanent members leave no room: nuclio/one"),
        ({"gpu_memory": "3Gi"}, "it needs 3072 MiB, and the budget is 1024 MiB"),
    )
    for settings, message in cases:
        folder = annotate(author.write(name="two"), **settings)
        with pytest.raises(InputError) as error:
            author.deploy(folder)
        assert message in error.value.message
        assert error.value.message.startswith("metadata.annotations.fnbuild.io/gpu-")
        assert error.value.hint
    assert not (Path(os.environ["FNBUILD_DATA_DIR"]) / "functions/nuclio/two/revisions/1").exists()
