"""Secret variables on the command line: declared, hidden in output, kept on request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.secretnames import ENV, MARKERS, PLAIN

pytestmark = pytest.mark.system

Fnbuild = Callable[..., Any]

CODE = """\
import os

def handler(context, event):
    return os.environ[event.body.decode()]
"""


@pytest.fixture
def fnbuild(empty: Path, fnbuild: Fnbuild) -> Iterator[Fnbuild]:
    yield fnbuild
    assert fnbuild("down").status == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "keeper"
    folder.mkdir()
    spec = {"handler": "main:handler", "runtime": "python:3.11", "env": ENV}
    (folder / "function.yaml").write_text(
        yaml.safe_dump({"metadata": {"name": "keeper"}, "spec": spec})
    )
    (folder / "main.py").write_text(CODE)
    return folder


def done(outcome: Any) -> Any:
    assert outcome.status == 0, outcome.err
    return outcome


def leaked(text: str) -> list[str]:
    return [value for value in MARKERS.values() if value in text]


def test_get_and_export_hide_values_by_default(fnbuild: Fnbuild, folder: Path, empty: Path) -> None:
    result = done(fnbuild("deploy", "--path", folder))
    assert not leaked(result.out + result.err)
    assert (
        done(fnbuild("invoke", "keeper", "-b", "OPENAI_KEY")).out.strip() == MARKERS["OPENAI_KEY"]
    )
    for command in (("get", "functions"), ("get", "function", "keeper"), ("export", "functions")):
        for form in ("json", "yaml"):
            shown = done(fnbuild(*command, "-o", form))
            assert not leaked(shown.out + shown.err), command
            assert all(value in shown.out for value in PLAIN.values())
            complete = done(fnbuild(*command, "-o", form, "--with-secrets")).out
            assert len(leaked(complete)) == len(MARKERS), command
    assert "OPENAI_KEY" in done(fnbuild("export", "function", "keeper")).err
    assert len(leaked(done(fnbuild("export", "projects")).out)) == 0
    logs = [item.read_text() for item in empty.rglob("*.log*") if item.is_file()]
    assert logs
    assert not leaked("".join(logs))


def test_masked_values_of_an_export_must_be_set_again(
    fnbuild: Fnbuild, folder: Path, tmp_path: Path
) -> None:
    env = [item for item in ENV if item["name"] in ("OPENAI_KEY", "MODEL")]
    raw = yaml.safe_load((folder / "function.yaml").read_text())
    raw["spec"]["env"] = env
    (folder / "function.yaml").write_text(yaml.safe_dump(raw))
    done(fnbuild("deploy", "--path", folder))
    masked, complete = tmp_path / "masked.yaml", tmp_path / "complete.yaml"
    masked.write_text(done(fnbuild("export", "function", "keeper")).out)
    complete.write_text(done(fnbuild("export", "function", "keeper", "--with-secrets")).out)

    done(fnbuild("delete", "function", "keeper"))
    done(fnbuild("import", "functions", masked))
    refused = fnbuild("deploy", "keeper")
    assert refused.status == 2
    assert "OPENAI_KEY" in refused.err
    assert "--secret-env OPENAI_KEY=VALUE" in refused.err
    done(fnbuild("deploy", "keeper", "--secret-env", "OPENAI_KEY=again"))
    assert done(fnbuild("invoke", "keeper", "-b", "OPENAI_KEY")).out.strip() == "again"

    done(fnbuild("delete", "function", "keeper"))
    done(fnbuild("import", "functions", complete))
    done(fnbuild("deploy", "keeper"))
    expected = MARKERS["OPENAI_KEY"]
    assert done(fnbuild("invoke", "keeper", "-b", "OPENAI_KEY")).out.strip() == expected


def test_declared_variables_stay_declared(fnbuild: Fnbuild, folder: Path) -> None:
    done(fnbuild("deploy", "--path", folder, "--secret-env", "MODEL"))
    done(fnbuild("update", "function", "keeper", "--secret-env", "BADGE=of-mine"))
    assert done(fnbuild("invoke", "keeper", "-b", "BADGE")).out.strip() == "of-mine"
    shown = json.loads(done(fnbuild("get", "function", "keeper", "-o", "json")).out)
    values = {item["name"]: item["value"] for item in shown["spec"]["env"]}
    assert (values["MODEL"], values["BADGE"]) == ("[redacted]", "[redacted]")
    assert values["THRESHOLD"] == PLAIN["THRESHOLD"]
    assert shown["metadata"]["annotations"]["fnbuild.io/secret-env"] == "BADGE,MODEL"


def test_a_secret_that_is_not_set_is_a_warning(fnbuild: Fnbuild, folder: Path) -> None:
    for command in (("deploy", "--path", folder), ("update", "function", "keeper")):
        wrong = done(fnbuild(*command, "--secret-env", "THRESHOLDS", "--secret-env", "MODEL"))
        assert "'THRESHOLDS' is declared to be a secret, but the function does not" in wrong.err
        assert "did you mean THRESHOLD?" in wrong.err
        assert "`--secret-env THRESHOLDS=VALUE`" in wrong.err
        assert "MODEL" not in wrong.err
    right = done(fnbuild("update", "function", "keeper", "--secret-env", "MODEL=small"))
    assert "declared to be a secret" not in right.err


def test_names_that_cannot_be_declared(fnbuild: Fnbuild, folder: Path) -> None:
    for text in ("=x", "A,B=x", ""):
        refused = fnbuild("deploy", "--path", folder, "--secret-env", text)
        assert refused.status == 2
        assert "--secret-env" in refused.err


def test_differences_and_previews_show_no_values(fnbuild: Fnbuild, folder: Path) -> None:
    done(fnbuild("deploy", "--path", folder))
    config = folder / "function.yaml"
    config.write_text(config.read_text().replace(MARKERS["JWT"], "marker-another-jwt"))
    for command in (("diff",), ("deploy", "--dry-run"), ("deploy", "--dry-run", "-o", "json")):
        shown = fnbuild(*command, "--path", folder)
        assert not leaked(shown.out + shown.err), command
        assert "marker-another-jwt" not in shown.out + shown.err, command
    difference = fnbuild("diff", "--path", folder).out
    assert "+    value: '[redacted] (another value)'" in difference
    assert difference.count("another value") == 1
