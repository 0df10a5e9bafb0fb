"""The GPU of each worker, with a list of GPUs that need not exist."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.system

HANDLER = """
import os

imported = os.environ.get("CUDA_VISIBLE_DEVICES")


def init_context(context):
    context.user_data.device = os.environ.get("CUDA_VISIBLE_DEVICES")


def handler(context, event):
    return [imported, context.user_data.device, os.popen("echo $CUDA_VISIBLE_DEVICES").read()]
"""


def devices(processor: Any) -> list[str]:
    return [worker["device"] for worker in processor.status()["workers"]]


def test_workers_share_gpus_in_the_order_of_their_numbers(serve: Any) -> None:
    env = {"CUDA_VISIBLE_DEVICES": "GPU-a, 3", "FNBUILD_START": "spawn"}
    processor = serve(HANDLER, workers=5, workers_per_device=2, env=env)
    assert devices(processor) == ["GPU-a", "GPU-a", "3", "3", "GPU-a"]
    imported, at_init, in_shell = processor.call()
    assert imported == at_init == in_shell.strip()
    assert imported in ("GPU-a", "3")


def test_forked_workers_get_their_gpus(serve: Any) -> None:
    env = {"CUDA_VISIBLE_DEVICES": "0,1"}
    processor = serve(HANDLER, workers=1, workers_per_device=1, env=env)
    assert processor.status()["start"]["by"] == "fork"
    assert processor.call() == ["0,1", "0", "0\n"]
    processor.tell("/sleep")
    assert processor.call() == ["0,1", "0", "0\n"]


def test_an_import_that_cannot_be_forked_is_repeated_on_the_gpu(serve: Any) -> None:
    source = "import threading, time\n" + HANDLER
    source += "\nthreading.Thread(target=time.sleep, args=(999,), daemon=True).start()\n"
    env = {"CUDA_VISIBLE_DEVICES": "0,1"}
    processor = serve(source, workers=2, workers_per_device=1, env=env)
    assert processor.status()["start"]["by"] == "spawn"
    assert devices(processor) == ["0", "1"]
    imported, at_init, _ = processor.call()
    assert imported == at_init


def test_without_the_setting_workers_see_every_gpu(serve: Any) -> None:
    processor = serve(HANDLER, env={"CUDA_VISIBLE_DEVICES": "0,1"})
    assert devices(processor) == [""]
    assert processor.call()[1] == "0,1"


def test_a_machine_without_gpus_gets_a_warning(serve: Any) -> None:
    processor = serve(HANDLER, workers_per_device=1, env={"CUDA_VISIBLE_DEVICES": ""})
    assert processor.status()["warnings"] == ["workers-per-device has no effect: there is no GPU"]
    assert processor.call()[1] == ""
