"""Warnings about attributes of context.user_data that are read and never set."""

import pytest

from fnbuild.errors import Diagnostic
from tests.function.function_folder import GOOD, Folder, at

HANDLER = "def handler(context, event):\n    return context.user_data.model.infer(event.body)\n"


def findings(folder: Folder, code: str) -> list[Diagnostic]:
    (folder.path / "main.py").write_text(code)
    return folder.findings(GOOD, code=True)


def test_an_unset_attribute_is_reported_where_it_is_read(folder: Folder) -> None:
    [finding] = findings(folder, HANDLER)
    assert (finding.severity, finding.rule) == ("warning", "user-data")
    assert at(finding) == (2, 30)
    assert finding.message == "the handler reads context.user_data.model, which is never set"
    assert finding.hint == "init_context sets it: context.user_data.model = …"


def test_a_misspelt_attribute_is_reported_with_a_suggestion(folder: Folder) -> None:
    code = "def init_context(context):\n    context.user_data.modell = 1\n\n\n" + HANDLER
    [finding] = findings(folder, code)
    assert (at(finding), finding.hint) == ((6, 30), "did you mean modell?")


@pytest.mark.parametrize(
    "code",
    [
        "def init_context(context):\n    context.user_data.model = 1\n",
        "def init_context(ctx):\n    ctx.user_data.model = 1\n",
        "def init_context(context):\n    setattr(context.user_data, 'model', 1)\n",
        "def init_context(context):\n    data = context.user_data\n    data.model = 1\n",
        "def init_context(context):\n    context.user_data.__dict__.update(model=1)\n",
        "def init_context(context):\n    [context.user_data.model] = [1]\n",
        "import elsewhere\ndef init_context(context):\n    elsewhere.load(context)\n",
        "import x\napp = x.App()\ndef init_context(context):\n    app.load(context)\n",
        "from library import init_context\n",
        "from library import *\n",
        "import library\n@library.wrapped\ndef init_context(context):\n    pass\n",
        "import x\nclass A(x.B):\n    pass\ndef init_context(context):\n    A(context)\n",
        "def init_context(context):\n    exec('context.user_data.model = 1')\n",
        "def init_context(context):\n    global kept\n    kept = context\n",
        "def init_context(context):\n    things = [context]\n",
        "def init_context(c):\n    return lambda: c\n",
    ],
)
def test_no_warning_if_the_attribute_is_or_may_be_set(folder: Folder, code: str) -> None:
    assert findings(folder, f"{code}\n\n{HANDLER}") == []


@pytest.mark.parametrize(
    "body",
    [
        "    if not hasattr(context.user_data, 'model'):\n        pass\n",
        "    try:\n        context.user_data.model\n    except AttributeError:\n        pass\n",
        "    return getattr(context.user_data, 'model', None)\n",
    ],
)
def test_no_warning_if_the_handler_expects_that_it_is_missing(folder: Folder, body: str) -> None:
    assert findings(folder, f"def handler(context, event):\n{body}") == []


def test_other_files_of_the_folder_are_considered(folder: Folder) -> None:
    own = "from setup import load\n\n\ndef init_context(context):\n    load(context)\n\n\n"
    module = folder.path / "setup.py"
    module.write_text("def load(context):\n    context.user_data.model = 1\n")
    assert findings(folder, own + HANDLER) == []
    module.write_text("def load(context):\n    pass\n")
    [finding] = findings(folder, own + HANDLER)
    assert finding.rule == "user-data"
    module.write_text("def load(context:\n")
    assert findings(folder, own + HANDLER) == []
