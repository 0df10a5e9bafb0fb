"""Paths that a .dockerignore leaves out."""

import pytest

from fnbuild.builder.image import dockerignore
from fnbuild.errors import InputError

PATHS = (
    "main.py", "function.yaml", "README.md", "docs", "docs/a.md", "docs/keep/a.md", "docs/keep",
    "weights", "weights/a.pt", "weights/deep", "weights/deep/a.pt", "Weights", "a.pt", "ab.pt",
    ".git", ".git/config", "[x]", "with space", "a\\b", "zeile\n", "x^", "b1", "b2", "-",
)  # fmt: skip


def ignored_paths(*lines: str) -> list[str]:
    rules = dockerignore.parse_dockerignore(lines)
    return [path for path in PATHS if rules.ignores(path)]


@pytest.mark.parametrize(
    ("lines", "ignored"),
    [
        ((), []),
        (("# main.py", "", "   "), []),
        (("main.py",), ["main.py"]),
        (("/main.py",), ["main.py"]),
        (("./docs/../main.py/",), ["main.py"]),
        (("  main.py  ",), ["main.py"]),
        ((" # main.py",), []),
        (("weights",), ["weights", "weights/a.pt", "weights/deep", "weights/deep/a.pt"]),
        (("weights/*",), ["weights/a.pt", "weights/deep", "weights/deep/a.pt"]),
        (("*.pt",), ["a.pt", "ab.pt"]),
        (("?.pt",), ["a.pt"]),
        (("*/*.pt",), ["weights/a.pt"]),
        (("**/*.pt",), ["weights/a.pt", "weights/deep/a.pt", "a.pt", "ab.pt"]),
        (("**/a.md",), ["docs/a.md", "docs/keep/a.md"]),
        (("docs/**",), ["docs/a.md", "docs/keep/a.md", "docs/keep"]),
        (("docs", "!docs/keep"), ["docs", "docs/a.md"]),
        (("docs", "!docs/keep", "docs/keep/a.md"), ["docs", "docs/a.md", "docs/keep/a.md"]),
        (("!main.py", "main.py"), ["main.py"]),
        (("*", "!*.py", "! function.yaml"), [p for p in PATHS if p not in PATHS[:2]]),
        (("b[0-1]",), ["b1"]),
        (("b[^1]",), ["b2"]),
        (("[[]x]",), ["[x]"]),
        (("\\[x]",), ["[x]"]),
        (("a\\\\b",), ["a\\b"]),
        (("x^",), ["x^"]),
        (("with?space",), ["with space"]),
        ((".", "/"), []),
        (("main.py\r",), ["main.py"]),
    ],
)  # fmt: skip
def test_patterns(lines, ignored):
    assert ignored_paths(*lines) == ignored


def test_patterns_are_case_sensitive():
    assert ignored_paths("Weights") == ["Weights"]


@pytest.mark.parametrize("line", ["!", "[a", "a[]", "!  "])
def test_invalid_patterns_are_refused(line):
    with pytest.raises(InputError, match=r"\.dockerignore:2: "):
        dockerignore.parse_dockerignore(["main.py", line])


def test_a_dockerignore_file_of_a_folder(tmp_path):
    assert not dockerignore.read_dockerignore(tmp_path).ignores("main.py")
    (tmp_path / ".dockerignore").write_bytes(b"\xef\xbb\xbf# ours\nmain.py\r\n\xff.bin\n")
    rules = dockerignore.read_dockerignore(tmp_path)
    assert rules.ignores("main.py")
    assert rules.ignores("\udcff.bin")
    assert not rules.ignores("ours")
