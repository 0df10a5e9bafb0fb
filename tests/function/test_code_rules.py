"""Findings about the handler's module, and modules without findings."""

import base64

import pytest

from fnbuild.errors import Diagnostic
from fnbuild.function.reader import check_text
from tests.function.function_folder import GOOD, Folder, at


def findings(folder: Folder, code: str, text: str = GOOD) -> list[Diagnostic]:
    (folder.path / "main.py").write_text(code)
    return folder.findings(text, code=True)


def only(folder: Folder, code: str, text: str = GOOD) -> Diagnostic:
    all_findings = findings(folder, code, text)
    assert len(all_findings) == 1, (
        "\n".join(finding.render() for finding in all_findings) or "nothing found"
    )
    return all_findings[0]


def test_a_syntax_error_is_shown_at_its_position(folder: Folder) -> None:
    finding = only(folder, "import os\ndef handler(context, event):\n    return os.path(\n")
    assert (finding.severity, finding.rule, at(finding)) == ("error", "python-syntax", (3, 19))
    assert finding.span is not None
    assert finding.span.file.endswith("main.py")
    assert finding.excerpt == "    return os.path("


@pytest.mark.parametrize(
    ("runtime", "severity"), [("python:3.99", "warning"), ("python:3.6", "warning")]
)
def test_syntax_of_another_python_version(folder: Folder, runtime: str, severity: str) -> None:
    code = "def handler(context, event, async=1):\n    return 1\n"
    all_findings = findings(folder, code, GOOD.replace("python:3.9", runtime))
    [finding] = [item for item in all_findings if item.rule == "python-syntax"]
    assert finding.severity == severity
    assert runtime in (finding.hint or "")
    all_findings = findings(folder, "def handler(context event):\n    pass\n", GOOD)
    assert [item.severity for item in all_findings] == ["error"]


@pytest.mark.parametrize("code", ["\0", "(" * 5000, "\ufeffx = '\x0c'\nhandler = 1\n\u2028", "\\d"])
def test_unusual_files_have_no_findings(folder: Folder, code: str) -> None:
    for finding in findings(folder, code):
        assert finding.render()


def test_a_misspelt_handler_is_shown_in_the_configuration(folder: Folder) -> None:
    code = "def handler(context, event):\n    pass\n\ndef handle_all(context):\n    pass\n"
    finding = only(folder, code, GOOD.replace("main:handler", "main:handle"))
    assert (finding.severity, finding.rule, at(finding)) == ("error", "handler-function", (5, 12))
    assert finding.hint == "did you mean handler?"
    assert "did you mean" not in only(folder, "x = 1\n").render()


@pytest.mark.parametrize(
    "code",
    [
        "from elsewhere import *\n",
        "from elsewhere import handler\n",
        "import elsewhere as handler\n",
        "handler = make()\n",
        "if True:\n    def handler(context, event): pass\nelse:\n    def handler(): pass\n",
        "try:\n    import x\nexcept ImportError as handler:\n    pass\n",
        "globals()['handler'] = print\n",
        "import sys\nsetattr(sys.modules[__name__], 'handler', print)\n",
        "def __getattr__(name):\n    return print\n",
        "def make():\n    global handler\n    handler = print\n\nmake()\n",
        "class handler:\n    def __init__(self, context, event): pass\n",
    ],
)
def test_names_from_other_modules(folder: Folder, code: str) -> None:
    assert findings(folder, code) == []


@pytest.mark.parametrize(
    ("head", "place"),
    [
        ("def handler():", (1, 5)),
        ("def handler(context):", (1, 5)),
        ("async def handler(event):", (1, 11)),
        ("def handler(context, event, more):", (1, 5)),
        ("def handler(context, event, *, more):", (1, 5)),
        ("def init_context():", (1, 5)),
        ("def init_context(context, more):", (1, 5)),
    ],
)
def test_functions_that_cannot_be_called(folder: Folder, head: str, place: tuple[int, int]) -> None:
    code = f"{head}\n    pass\n"
    if "init_context" in head:
        code += "\ndef handler(context, event):\n    pass\n"
    finding = only(folder, code)
    assert (finding.severity, finding.rule, at(finding)) == ("error", "handler-signature", place)
    assert finding.excerpt == head


@pytest.mark.parametrize(
    "head",
    [
        "def handler(*args):", "def handler(context, *args):", "def handler(context, event, /):",
        "def handler(context, event, more=1):", "def handler(context, event, *, more=1, **rest):",
        "@wrapped\ndef handler():",
    ],
)  # fmt: skip
def test_functions_that_can_be_called(folder: Folder, head: str) -> None:
    assert findings(folder, f"{head}\n    pass\n") == []


def test_the_module_may_be_a_package(folder: Folder) -> None:
    (folder.path / "app").mkdir()
    (folder.path / "app" / "__init__.py").write_text("def handler():\n    pass\n")
    text = GOOD.replace("main:", "app:")
    [finding] = folder.findings(text, code=True)
    assert finding.rule == "handler-signature"


def test_a_deploy_leaves_the_module_to_its_workers(folder: Folder) -> None:
    (folder.path / "main.py").write_text("def handler(:\n")
    assert folder.findings(GOOD) == []


def inline(code: bytes, more: str = "") -> str:
    return f"{GOOD}  build:\n    functionSourceCode: {base64.b64encode(code).decode()}\n{more}"


def test_inline_source_is_checked_like_a_file(folder: Folder) -> None:
    good = "def handler(context, event):\n    pass\n"
    assert findings(folder, good, inline(good.encode())) == []
    finding = only(folder, good, inline(b"def handle(context, event):\n    pass\n"))
    assert (finding.severity, finding.rule, at(finding)) == ("error", "handler-function", (5, 12))
    assert finding.message == "there is no 'handler' in functionSourceCode"
    assert finding.hint == "did you mean handle?"
    finding = only(folder, good, inline(b"def handler(context, event)\n"))
    assert (finding.rule, at(finding)) == ("python-syntax", (1, 28))
    assert finding.span is not None
    assert finding.span.file == "functionSourceCode"
    assert only(folder, good, inline(b"def handler(event): pass\n")).rule == "handler-signature"


def test_inline_source_is_checked_without_a_folder() -> None:
    _, report = check_text(inline(b"x = 1\n").encode(), "function.yaml")
    assert [finding.rule for finding in report.errors] == ["handler-function"]


@pytest.mark.parametrize("more", ["    codeEntryType: image\n", "  image: registry/name:1\n"])
def test_inline_source_that_does_not_run(folder: Folder, more: str) -> None:
    all_findings = findings(folder, "", inline(b"x = 1\n", more))
    assert [finding.rule for finding in all_findings] == (
        ["handler-function"] if "registry" in more else []
    )


def test_a_large_module_is_not_checked(folder: Folder) -> None:
    assert findings(folder, "x = 1\n" + "#" * (5 << 20)) == []


@pytest.mark.parametrize("server", ["kserve.ModelServer()", "kfserving.KFServer()"])
def test_a_script_that_starts_a_model_server_needs_no_handler(folder: Folder, server: str) -> None:
    code = f"if __name__ == '__main__':\n    {server}.start([Model()])\n"
    text = GOOD.replace("main:handler", "main:__main__")
    assert findings(folder, code, text) == []
    assert only(folder, code.replace(server, "server"), text).rule == "handler-function"
