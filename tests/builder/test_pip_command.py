"""Recognition of pip commands and their options."""

import pytest

from fnbuild.builder.requirements import pip_arguments, pip_options, pip_verb


@pytest.mark.parametrize(
    "command",
    [
        "pip install x",
        "pip3 install x",
        "pip3.8 install x",
        "/opt/conda/bin/pip install x",
        "python -m pip install x",
        "python3 -m pip install x",
        "/usr/bin/python3.8 -u -m pip install x",
        "sudo -H pip install x",
        "FOO=1 BAR=2 pip install x",
        "env FOO=1 pip install x",
        "FOO=1 sudo -E env BAR=2 python3 -m pip install x",
        "conda run -n env --no-capture-output pip install x",
        "uv pip install x",
    ],
)
def test_pip_in_all_its_forms(command):
    assert pip_arguments(tuple(command.split())) == ("install", "x")


@pytest.mark.parametrize(
    "command",
    [
        "apt-get install pip",
        "python setup.py install",
        "python -c pip",
        "python -m pipx install x",
        "pipx install x",
        "conda install pip",
        "uv sync",
        "sudo",
        "then pip install x",
        "echo pip install x",
    ],
)
def test_other_commands_are_not_pip(command):
    assert pip_arguments(tuple(command.split())) is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("install x", "install"),
        ("--no-cache-dir install x", "install"),
        ("--proxy http://p install x", "install"),
        ("uninstall -y x", "uninstall"),
        ("config set a b", "unsupported"),
        ("cache purge", "harmless"),
        ("--version", "harmless"),
    ],
)
def test_verb(arguments, expected):
    assert pip_verb(tuple(arguments.split())) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("x y==1", [("", "x"), ("", "y==1")]),
        ("-r a.txt -ra.txt --requirement=a.txt --requirement a.txt", [("-r", "a.txt")] * 2
            + [("--requirement", "a.txt")] * 2),
        ("-c a.txt", [("-c", "a.txt")]),
        ("-e . --editable=./b --editable ./c", [("", "."), ("", "./b"), ("", "./c")]),
        ("-U --upgrade --pre x", [("-U", ""), ("--upgrade", ""), ("--pre", ""), ("", "x")]),
        ("-q --no-cache-dir --user --break-system-packages x", [("", "x")]),
        ("--target /x --prefix=/y -t /z x", [("", "x")]),
        ("--index-url http://a --extra-index-url=http://b", [("--index-url", "http://a"),
            ("--extra-index-url", "http://b")]),
        ("-i http://a -ihttp://a", [("-i", "http://a")] * 2),
        ("-f http://a/x.html", [("-f", "http://a/x.html")]),
        ("--unknown=1 --flag x", [("--unknown=1", ""), ("--flag", ""), ("", "x")]),
        ("-r", [("-r", "")]),
    ],
)  # fmt: skip
def test_pairs(arguments, expected):
    assert list(pip_options(tuple(arguments.split()))) == expected
