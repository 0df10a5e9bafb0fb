"""The check that imports a handler before the serving processor is stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fnbuild.builder import sdk
from tests.runtime import interpreters

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
HANDLER = "def handler(context, event): return 'ok'\n"
BROKEN = "def handler(context, event)\n"

Check = Callable[..., tuple[int, dict[str, str]]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    def run(source: str, python: str = sys.executable, **values: Any) -> tuple[int, dict[str, str]]:
        (tmp_path / "main.py").write_text(source)
        config = {"handler": "main:handler", "code": str(tmp_path), "interpreter": python}
        config["sdk_path"] = str(sdk.ensure_all_sdks()[0].parent)
        path = tmp_path / "processor.json"
        path.write_text(json.dumps(config | values))
        command = [python, "-m", "fnbuild.runtime.importcheck", str(path)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert ended.stdout, ended.stderr
        return ended.returncode, json.loads(ended.stdout.splitlines()[-1])

    return run


@pytest.mark.parametrize("version", interpreters.few())
def test_code_that_imports_and_code_that_does_not(check: Check, version: str) -> None:
    python = str(interpreters.find(version))
    status, verdict = check("print('loaded')\n" + HANDLER, python)
    assert (status, verdict["verdict"]) == (0, "ok")
    status, verdict = check(BROKEN, python)
    assert (status, verdict["verdict"]) == (1, "failed")
    assert verdict["reason"].startswith("SyntaxError")
    assert "main.py" in verdict["detail"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_library\n" + HANDLER, "No module named 'no_such_library'"),
        ("import json\nname = jsn.dumps\n" + HANDLER, "NameError"),
        ("def handle(context, event): pass\n", "main.py has no function handler"),
    ],
)
def test_errors_in_the_code_are_certain(check: Check, source: str, reason: str) -> None:
    status, verdict = check(source)
    assert (status, verdict["verdict"]) == (1, "failed")
    assert reason in verdict["reason"]


@pytest.mark.parametrize(
    "source",
    [
        "raise RuntimeError('No CUDA GPUs are available')\n",
        "raise ImportError('libcuda.so.1: cannot open shared object file')\n",
        "import os\nos._exit(3)\n",
        "raise SystemExit('an accelerator is needed')\n",
    ],
)
def test_errors_that_the_missing_gpu_may_cause_are_inconclusive(check: Check, source: str) -> None:
    status, verdict = check(source + HANDLER)
    assert (status, verdict["verdict"]) == (0, "unknown")


def test_no_gpu_is_visible_and_init_context_does_not_run(check: Check) -> None:
    source = (
        "import os\nassert os.environ['CUDA_VISIBLE_DEVICES'] == ''\n"
        "def init_context(context): raise ValueError('it ran')\n"
    )
    env = {"CUDA_VISIBLE_DEVICES": "0"}
    assert check(source + HANDLER, env=env)[1]["verdict"] == "ok"


def test_an_import_that_hangs_is_inconclusive(check: Check) -> None:
    status, verdict = check("import time\ntime.sleep(600)\n" + HANDLER, readiness_timeout=1)
    assert (status, verdict["verdict"]) == (0, "unknown")
