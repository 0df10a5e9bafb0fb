"""Features that docs/compatibility.md lists as missing are refused, and the reverse."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.cli.app import run

TEXT = (Path(__file__).parents[2] / "docs/compatibility.md").read_text()

FLAGS = (
    "--username", "--access-key", "--request-timeout", "--skip-tls-verify",
    "--verify-external-registry", "--from-report", "--desired-state",
)  # fmt: skip
VERBS = (
    "parse", "create functionevent", "get functionevents", "delete functionevents",
    "create apigateway", "get apigateways", "delete apigateways",
)  # fmt: skip


@pytest.mark.parametrize("flag", FLAGS)
def test_unsupported_flags_of_redeploy(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"`{flag}`" in TEXT
    assert run(["beta", "redeploy", flag]) == 2
    assert flag in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_unsupported_verbs(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"`{verb}`" in TEXT
    assert run(verb.split()) == 2
    assert verb.rpartition(" ")[2] in capsys.readouterr().err


def test_verbose_shows_status_and_headers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["invoke", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "debug logs" not in shown
    assert "Show status and headers of replies" in shown
