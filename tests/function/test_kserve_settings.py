"""The settings for KServe in function.yaml: names, values, combinations, and their places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fnbuild.errors import InputError
from fnbuild.function.kserve_settings import KServeSettings, find_problems, kserve_settings
from fnbuild.function.reader import check_function, function_from_dict

MODEL = {"format": "sklearn", "storageUri": "s3://bucket/model"}


def test_settings_are_read_with_defaults() -> None:
    assert kserve_settings(function_from_dict({}, "x")) == KServeSettings()
    raw = {"spec": {"platform": {"attributes": {"kserve": {"model": MODEL, "scaleTarget": None}}}}}
    settings = kserve_settings(function_from_dict(raw, "x"))
    assert settings.model is not None
    assert settings.model.storage_uri == "s3://bucket/model"
    assert not settings.runs_code


@pytest.mark.parametrize(
    ("settings", "path", "text"),
    [
        ([], (), "mapping"),
        ({"componant": "predictor"}, ("componant",), "no setting"),
        ({"component": "explainer"}, ("component",), "one of predictor, transformer, pair"),
        ({"model": {"formt": "sklearn"}}, ("model", "formt"), "no setting"),
        ({"model": {**MODEL, "version": 1}}, ("model", "version"), "is text, not 1"),
        ({"model": "sklearn"}, ("model",), "mapping"),
        ({"canaryTrafficPercent": 101}, ("canaryTrafficPercent",), "0 to 100"),
        ({"containerConcurrency": -1}, ("containerConcurrency",), "0 or more"),
        ({"batcher": {"maxBatchSize": 0}}, ("batcher", "maxBatchSize"), "1 or more"),
        ({"logger": {"url": "x", "mode": "none"}}, ("logger", "mode"), "all, request, response"),
        ({"logger": {}}, ("logger",), "no url"),
        ({"args": "--x"}, ("args",), "a list"),
        ({"args": [1]}, ("args", 0), "is text"),
        ({"scaleMetric": "gpu"}, ("scaleMetric",), "one of cpu"),
        ({"scaleTarget": 10}, ("scaleTarget",), "without scaleMetric"),
        ({"deploymentMode": "Knative", "autoscalerClass": "hpa"}, ("autoscalerClass",), "Knative"),
        ({"component": "transformer"}, ("component",), "one predictor"),
        ({"component": "transformer", "inferenceService": "a", "predictorImage": "b"},
         ("component",), "one predictor"),
        ({"inferenceService": "a"}, ("inferenceService",), "component: transformer"),
        ({"component": "pair", "model": MODEL}, ("model", "format"), "pair"),
        ({"model": {"format": "sklearn"}}, ("model",), "no storageUri"),
        ({"model": {**MODEL, "storage": {"key": "x"}}}, ("model", "storage"), "exclude"),
        ({"model": {**MODEL, "storageUri": "ftp://h/m"}}, ("model", "storageUri"), "'ftp'"),
        ({"model": {"storageUri": "s3:/bucket"}}, ("model", "storageUri"), "'//' is missing"),
        ({"model": {"storageUri": "s3://bucket/m", "runtime": "x"}}, ("model", "runtime"),
         "without a format"),
        ({"model": {}}, ("model",), "neither a format nor a storageUri"),
        ({"servingRuntime": {}}, ("servingRuntime",), "supports no format"),
        ({"servingRuntime": {"formats": [{"name": "a"}]}, "model": MODEL}, ("servingRuntime",),
         "neither a model"),
        ({"servingRuntime": {"formats": [{}]}}, ("servingRuntime", "formats", 0), "no name"),
        ({"servingRuntime": {"formats": [{"name": "a", "priority": 1},
                                         {"name": "a", "version": "2", "priority": 2}]}},
         ("servingRuntime", "formats", 1, "priority"), "two priorities"),
    ],
)  # fmt: skip
def test_invalid_settings_have_a_place_and_a_reason(
    settings: Any, path: tuple[str, ...], text: str
) -> None:
    [problem] = find_problems(settings)
    assert problem.path == path
    assert text in f"{problem.message} {problem.hint}"


def test_the_first_invalid_setting_of_a_deployed_function_is_an_error() -> None:
    raw = {"spec": {"platform": {"attributes": {"kserve": {"model": {"version": 1}}}}}}
    with pytest.raises(InputError, match=r"attributes\.kserve\.model\.version: version is text"):
        kserve_settings(function_from_dict(raw, "x"))


def test_all_invalid_settings_are_reported_at_their_lines(tmp_path: Path) -> None:
    (tmp_path / "function.yaml").write_text("""\
metadata:
  name: iris
spec:
  platform:
    attributes:
      kserve:
        componant: predictor
        model:
          format: sklearn
          version: 1
""")
    _, report = check_function(tmp_path)
    assert [(item.rule, item.span.line) for item in report.errors if item.span] == [
        ("kserve", 7),
        ("kserve", 10),
    ]
    assert report.errors[0].hint == "did you mean component?"
    assert report.errors[1].hint == 'write it in quotes: "1"'


def test_a_model_needs_no_handler(tmp_path: Path) -> None:
    text = "metadata: {name: iris}\nspec: {platform: {attributes: {kserve: {model: MODEL}}}}\n"
    model = "{format: sklearn, storageUri: 's3://bucket/m'}"
    (tmp_path / "function.yaml").write_text(text.replace("MODEL", model))
    loaded, report = check_function(tmp_path)
    assert loaded is not None
    assert report.diagnostics == []
