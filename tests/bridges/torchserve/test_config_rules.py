"""Rules for config.properties: places, messages and repairs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnbuild.bridges.torchserve.config_file import ConfigFile
from fnbuild.bridges.torchserve.config_rules import (
    Problem,
    find_problems,
    repair_config,
    report_problems,
)
from fnbuild.errors import Diagnostic, InputError
from tests.bridges.torchserve.trees import ARTICLE


def problems_of(text: str) -> list[Problem]:
    return list(find_problems(ConfigFile(Path("config.properties"), text.encode())))


def diagnostics_of(text: str) -> list[Diagnostic]:
    config = ConfigFile(Path("config.properties"), text.encode())
    return list(report_problems(config, find_problems(config)))


def only(text: str) -> Diagnostic:
    [diagnostic] = diagnostics_of(text)
    return diagnostic


def repaired(folder: Path, text: str | bytes) -> bytes:
    path = folder / "config.properties"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    repair_config(path)
    return path.read_bytes()


def snapshot(**settings: object) -> str:
    """Return a snapshot with the required settings, changed as stated."""
    required = {
        "defaultVersion": True, "marName": "cats.mar", "minWorkers": 1, "maxWorkers": 1,
        "batchSize": 1, "maxBatchDelay": 100,
    }  # fmt: skip
    values = {key: value for key, value in {**required, **settings}.items() if value is not None}
    models = {"cats": {"1.0": values}}
    return "model_snapshot=" + json.dumps({"name": "s", "modelCount": 1, "models": models})


def test_the_configuration_of_the_article_has_every_problem_with_its_place() -> None:
    config = ConfigFile(ARTICLE)
    report = report_problems(config, find_problems(config))
    places = {(item.rule, item.span.line, item.span.column) for item in report if item.span}
    assert places == {
        ("shared-port", 2, 20),
        ("unknown-key", 7, 1),
        ("unknown-key", 8, 1),
        ("unknown-key", 9, 1),
        ("inline-comment", 10, 37),
        ("inline-comment", 11, 32),
        ("kserve-tokens", 10, 13),
    }
    texts = {item.span.line: f"{item.message}; {item.hint}" for item in report if item.span}
    assert "port 8085: calls for /models/NAME/VERSION get 404" in texts[2]
    assert "such as 8086" in texts[2]
    assert texts[7].endswith("unknown key 'metrics_format'; the key is metrics_mode")
    assert "`--config-file` or `--extra-files`" in texts[8]
    assert "`deviceIds` in a model-config.yaml" in texts[9]
    assert "model_store is '/mnt/models/model-store\\x09# torchserve구동" in texts[10]
    assert texts[11].startswith("Java has no comments after values: install_py_dep_per_model is")
    assert "which counts as false" in texts[11]


def test_the_configuration_of_the_article_is_repaired(tmp_path: Path) -> None:
    lines = ARTICLE.read_text().splitlines()
    expected = [
        lines[0],
        "management_address=http://0.0.0.0:8086",
        *lines[2:6],
        "metrics_mode=prometheus",
        "# config_path=extra/config",
        "# gpu_id=0",
        "# torchserve구동 시 model file의 저장 위치 지정",
        "model_store=/mnt/models/model-store",
        "# requriements.txt를 설치하기 위해",
        "install_py_dep_per_model=true",
        lines[11],
    ]
    text = repaired(tmp_path, ARTICLE.read_bytes()).decode()
    assert text.splitlines() == expected
    assert [item.rule for item in problems_of(text)] == ["kserve-tokens"]


def test_repairs_are_reported_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "config.properties"
    path.write_text("# comment\nmetrics_format=prometheus\nenable_model_api=true # on\n")
    assert [str(repair) for repair in repair_config(path)] == [
        f"{path}:2: metrics_format became metrics_mode",
        f"{path}:3: put the comment of enable_model_api on a line of its own",
    ]
    assert repair_config(path) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  debug : true   # on\r\nversion=1\r\n", "# on\r\n  debug : true\r\nversion=1\r\n"),
        ("job_queue_size= # none", "# none\njob_queue_size= "),
        ("vmargs=-Xmx1g \\\n  -Xss1m # two \\\n lines", "# two  lines\nvmargs=-Xmx1g \\\n  -Xss1m"),
        ("inference_adress=http://a:80", "inference_address=http://a:80"),
        ("disable_token_auth=true", "disable_token_authorization=true"),
    ],
)
def test_a_repair_keeps_everything_else(tmp_path: Path, before: str, after: str) -> None:
    assert repaired(tmp_path, before).decode() == after


def test_a_file_in_another_encoding_keeps_its_bytes(tmp_path: Path) -> None:
    comment = "# 설정\n".encode("cp949")
    assert repaired(tmp_path, comment + b"debug=true # a\n") == comment + b"# a\ndebug=true\n"


def test_a_byte_order_mark_is_part_of_the_first_key(tmp_path: Path) -> None:
    assert only("\ufeffload_models=all").rule == "unknown-key"
    assert repaired(tmp_path, "\ufeffload_models=all") == b"load_models=all"


@pytest.mark.parametrize(
    ("line", "rule", "message"),
    [
        ("job_queue_size=1k", "wrong-type", "with '1k' the server does not start"),
        ("enable_model_api=ja", "wrong-type", "'ja' counts as false"),
        ("debug=true \t", "wrong-type", "'true \\x09' counts as false"),
        ("metrics_address=ftp://a", "wrong-type", "metrics_address is http://HOST:PORT"),
        ("max_request_size=1 # MB", "inline-comment", "with which the server does not start"),
        ("grpc_inference_port=8081", "shared-port", "share port 8081: it cannot start"),
        ("keystore=$$HOME$$/a", "environment-variable", "environment variable HOME"),
        ("job_queue_size=$$SIZE$$", "environment-variable", "environment variable SIZE"),
        (f"load_models=all\n{snapshot()}", "ignored-key", "load_models has no effect"),
        ("batch_size=4", "unknown-key", "unknown key 'batch_size'"),
    ],
)
def test_a_line_has_its_problem(line: str, rule: str, message: str) -> None:
    diagnostic = only(line)
    assert (diagnostic.rule, message in diagnostic.message) == (rule, True)
    assert diagnostic.span is not None
    assert diagnostic.span.line == 1


def test_a_valid_configuration_has_no_problem() -> None:
    valid = "\n  management_address=http://0.0.0.0:8083\n! comment\nkeystore_pass=a#b\n"
    assert problems_of(valid + snapshot(responseTimeout="120")) == []
    assert problems_of(snapshot(marName="a # b.mar")) == []


def test_an_api_without_tokens_is_open() -> None:
    text = "disable_token_authorization=true\nenable_model_api=true\n"
    assert problems_of(text) == []
    assert only(f"{text}management_address=http://0.0.0.0:8083").rule == "open-server"
    assert problems_of("enable_model_api=true\nmanagement_address=http://0.0.0.0:8083") == []


def test_a_file_for_kserve_disables_tokens() -> None:
    assert only("metrics_config=/mnt/models/config/metrics.yaml").rule == "kserve-tokens"
    text = "model_store=/mnt/models/model-store\ndisable_token_authorization=true"
    assert problems_of(text) == []
    assert problems_of("model_store=/mnt/models2") == []


def test_kserve_reads_a_snapshot_of_one_line(tmp_path: Path) -> None:
    start = "model_store=/mnt/models\ndisable_token_authorization=true\n"
    text = start + snapshot().replace('"models"', '\\\n    "models"')
    assert only(text).rule == "kserve-snapshot"
    assert repaired(tmp_path, text).decode() == start + snapshot()


@pytest.mark.parametrize(
    ("text", "marked", "message"),
    [
        (snapshot(minWorkers=None), '"1.0"', "missing required field `minWorkers`"),
        (
            snapshot(batchSize="x"),
            '"1.0"',
            "cats 1.0: Expected `int`, got `str` - at `$.batchSize`",
        ),
        (snapshot().replace(': {"cats', ' {"cats'), "{", "not a JSON object: Expecting ':'"),
        (snapshot().replace(": 1,", ": 0,", 1), "{", "modelCount is 0: the server loads none"),
        ("model_snapshot=[]", "[]", "it has no keys"),
        ('models={"a": 1', "{", "models is not a JSON object"),
        ("model_snapshot={}", "{}", "has no models: the server loads none"),
    ],
)
def test_a_problem_of_a_snapshot_has_its_place_in_the_file(
    text: str, marked: str, message: str
) -> None:
    diagnostic = only(text)
    assert diagnostic.rule == "snapshot"
    assert message in diagnostic.message
    span = diagnostic.span
    assert span is not None
    assert text.splitlines()[span.line - 1][span.column - 1 : span.end_column - 1].startswith(
        marked
    )


def test_a_missing_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*config\.properties: No such file"):
        ConfigFile(tmp_path / "config.properties")


@settings(max_examples=50, deadline=None)
@given(st.text(st.sampled_from('ab1{}[]":,=# \\\n\t\u00e9\ud55c'), max_size=60))
def test_any_text_has_a_report(text: str) -> None:
    for key in ("", "model_snapshot=", "models=", "debug=", "metrics_address="):
        diagnostics_of(key + text)


def test_half_of_a_surrogate_pair_is_no_json() -> None:
    assert "surrogates not allowed" in only('model_snapshot={"a": "\\ud83d"}').message
