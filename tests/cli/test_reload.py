"""Reloads of a handler's module without another `init_context`."""

from __future__ import annotations

import textwrap

import pytest

from fnbuild.cli.watch import can_keep_model

MODULE = """\
\"\"\"A detector.\"\"\"
import json
from pathlib import Path

SIZE = (640, 480)
WEIGHTS = "weights.bin"
SEEN = []


def load(path):
    return Path(path).read_bytes()


def init_context(context):
    context.user_data.model = load(WEIGHTS)
    context.user_data.size = SIZE


def answer(context, text):
    return context.user_data.model + text


def handler(context, event):
    return answer(context, event.body)
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return answer(context, event.body)", "return json.dumps(1)"),
        ("model + text", "model + text + text"),
        ('"""A detector."""', '"""A better detector."""'),
        ("def answer", "\n\ndef unused():\n    pass\n\n\ndef answer"),
        ("import json", "import json  # for the reply"),
        # It cannot be loaded in either case.
        ("def handler", "def handler("),
    ],
)
def test_code_used_only_by_the_handler_may_change(old: str, new: str) -> None:
    assert MODULE.count(old) == 1
    assert can_keep_model(MODULE, MODULE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("user_data.size = SIZE", "user_data.size = 3"),
        (".read_bytes()", ".read_text()"),
        ('"weights.bin"', '"other.bin"'),
        ("(640, 480)", "(320, 240)"),
        ("import json", "import yaml"),
        ("SEEN = []", "SEEN = [1]"),
        ("def load(path)", "def load(path, deep=True)"),
        ("def init_context", "def init_context_no_more"),
    ],
)
def test_code_used_by_init_context_may_not_change(old: str, new: str) -> None:
    assert MODULE.count(old) == 1
    assert not can_keep_model(MODULE, MODULE.replace(old, new))


@pytest.mark.parametrize(
    "body",
    [
        "global MODEL\nMODEL = 1",
        "SEEN.append(1)",
        "handler.model = 1",
        "context.user_data.model = Model()",
        "globals()['handler']",
        "context.user_data.call = handler",
        "load = __import__('main').answer",
        "context.user_data.call = getattr(context, 'x')",
        "warm('handler')",
    ],
)
def test_a_model_at_module_level_is_created_again(body: str) -> None:
    code = "class Model:\n    pass\n\n\ndef init_context(context):\n    {}\n\n\n"
    remainder = "SEEN = []\n\n\ndef warm(name):\n    pass\n\n\n"
    remainder += "def handler(context, event):\n    return {}\n"
    before = code.format(textwrap.indent(body, "    ").lstrip()) + remainder.format(1)
    assert not can_keep_model(before, before.replace("return 1", "return 2"))


def test_a_module_without_init_context_is_reloaded() -> None:
    assert can_keep_model(
        "def handler(c, e):\n    return 1\n", "def handler(c, e):\n    return 2\n"
    )


def test_module_that_failed_to_load_restarts() -> None:
    assert not can_keep_model("def handler(", MODULE)
