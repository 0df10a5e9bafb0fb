"""The settings for TorchServe in function.yaml: names, values, combinations, and their places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fnbuild.errors import InputError
from fnbuild.function.reader import function_from_dict, load_function
from fnbuild.function.torchserve_settings import (
    ATTRIBUTE,
    TorchServeSettings,
    torchserve_settings,
)


def test_settings_are_read_with_defaults() -> None:
    settings = torchserve_settings(function_from_dict({}, "x"))
    assert settings == TorchServeSettings()
    assert (settings.keep, settings.batch_size, settings.max_batch_delay) == (3, 1, 100)
    assert settings.tokens
    assert not settings.expose_management
    assert settings.load_models == "active"
    assert settings.ports.inference is None


@pytest.mark.parametrize(
    ("settings", "path", "text"),
    [
        ([], (), "torchserve is a mapping"),
        ({"stor": "/models"}, ("stor",), "did you mean store"),
        ({"keep": 0}, ("keep",), "1 or more"),
        ({"maxBatchDelay": "1s"}, ("maxBatchDelay",), "0 or more"),
        ({"tokens": "no"}, ("tokens",), "true or false"),
        ({"loadModels": "none"}, ("loadModels",), "one of active, all"),
        ({"serviceType": "nodePort"}, ("serviceType",), "did you mean NodePort"),
        ({"ports": {"inference": 0}}, ("ports", "inference"), "1 to 65535"),
        ({"ports": {"inference": 8085, "management": 8085}}, ("ports", "management"),
         "8085 is that of inference"),
        ({"store": "s3://bucket/models"}, ("store",), "a folder or `pvc://CLAIM/PATH`"),
        ({"store": "pvc:///models"}, ("store",), "names no claim"),
        ({"storeMount": "/deploy-model"}, ("storeMount",), "without a claim"),
    ],
)  # fmt: skip
def test_invalid_settings_have_a_place_and_a_reason(
    settings: Any, path: tuple[str, ...], text: str
) -> None:
    [problem] = ATTRIBUTE.find_problems(settings)
    assert problem.path == path
    assert text in f"{problem.message} {problem.hint}"


@pytest.mark.parametrize("python", ["env/bin/python", "/env/bin/python", "~/python", "python3"])
def test_the_interpreter_is_relative_to_the_folder(tmp_path: Path, python: str) -> None:
    config = f"spec:\n  platform: {{attributes: {{torchserve: {{python: {python}}}}}}}\n"
    (tmp_path / "function.yaml").write_text(f"metadata: {{name: a}}\n{config}")
    (tmp_path / "main.py").write_text("def handler(context, event): ...\n")
    settings = torchserve_settings(load_function(tmp_path).function)
    assert settings.python == (str(tmp_path / python) if python.startswith("env") else python)


def test_the_first_invalid_setting_of_a_deployed_function_is_an_error() -> None:
    raw = {"spec": {"platform": {"attributes": {"torchserve": {"keep": 0}}}}}
    with pytest.raises(InputError, match=r"attributes\.torchserve\.keep: keep is a whole number"):
        torchserve_settings(function_from_dict(raw, "x"))
