"""The configuration of TorchServe, written and read."""

from __future__ import annotations

import re
import zipfile

import pytest

from fnbuild.bridges.torchserve.server_config import (
    BOOLEAN_KEYS,
    KNOWN_KEYS,
    NUMBER_KEYS,
    ModelSettings,
    ServerConfig,
    address_host,
    address_port,
    parse,
    render,
)
from fnbuild.errors import InputError
from tests.torchserve_server import torchserve_python

ALL_MODELS = """\
inference_address=http://0.0.0.0:8082
management_address=http://0.0.0.0:8083
metrics_address=http://0.0.0.0:8084
metrics_mode=prometheus
job_queue_size=100
install_py_dep_per_model=true
load_models=all
"""


def test_the_configuration_of_the_pipeline_is_written() -> None:
    config = ServerConfig(
        inference_address="http://0.0.0.0:8082",
        management_address="http://0.0.0.0:8083",
        metrics_address="http://0.0.0.0:8084",
        install_py_dep_per_model=True,
        load_models="all",
    )
    assert render(config) == ALL_MODELS
    assert parse(ALL_MODELS) == config
    assert config.port("management_address") == 8083


def test_a_snapshot_is_one_line_of_json() -> None:
    settings = ModelSettings(
        default_version=True,
        mar_name="digits_201231_2359.mar",
        min_workers=1,
        max_workers=3,
        batch_size=4,
        max_batch_delay=100,
        response_timeout=120,
    )
    config = ServerConfig(
        snapshot={"digits": {"201231_2359": settings}},
        model_store="/srv/Modelle für\\alle",
        disable_token_authorization=True,
        other={"vmargs": "-Xmx256m"},
    )
    text = render(config)
    assert (
        'model_snapshot={"name": "startup.cfg", "modelCount": 1, "models": {"digits": {'
        '"201231_2359": {"defaultVersion": true, "marName": "digits_201231_2359.mar",'
        ' "minWorkers": 1, "maxWorkers": 3, "batchSize": 4, "maxBatchDelay": 100,'
        ' "responseTimeout": 120}}}}\n'
    ) in text
    assert "disable_token_authorization=true\nmodel_store=/srv/Modelle f\\u00fcr\\\\alle\n" in text
    assert "enable_model_api" not in text
    assert parse(text) == config


def test_indented_lines_of_a_triple_quoted_string_are_read() -> None:
    indented = ALL_MODELS.replace("\n", "\n    ")
    assert parse(indented) == parse(ALL_MODELS)


def test_metrics_are_empty_without_a_mode() -> None:
    assert parse("").metrics_mode == "log"


def test_a_boolean_with_an_inline_comment_is_false() -> None:
    assert parse("install_py_dep_per_model=true # packages").install_py_dep_per_model is False
    assert parse("install_py_dep_per_model=TRUE").install_py_dep_per_model is True


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "job_queue_size=1k",
            r"c\.properties: Expected `int`, got `str` - at `\$\.job_queue_size`",
        ),
        ("model_snapshot={", r"c\.properties: Input data was truncated"),
        ('model_snapshot={"models": {"a": {"1": {}}}}', "missing required field `defaultVersion`"),
    ],
)
def test_a_wrong_value_is_one_error(line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(f"# comment\n{line}\n", "c.properties")


def test_a_variable_has_its_value_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "job_queue_size=$$QUEUE_SIZE$$\nkeystore_pass=$$PASSWORD$$\n"
    with pytest.raises(InputError, match=r"c\.properties: job_queue_size needs the environment"):
        parse(text, "c.properties")
    monkeypatch.setenv("QUEUE_SIZE", "7")
    config = parse(text)
    assert (config.job_queue_size, config.other["keystore_pass"]) == (7, "$$PASSWORD$$")


def test_addresses_have_the_forms_that_torchserve_reads() -> None:
    assert address_port("inference_address", "http://0.0.0.0:8085") == 8085
    assert address_port("management_address", "https://host") == 8444
    assert address_port("inference_address", "unix:/tmp/socket") == 0
    assert address_port("inference_address", "0.0.0.0:8085") is None
    assert address_port("inference_address", "http://a:65535") is None
    assert address_host("http://127.0.0.1:80") == "127.0.0.1"


@pytest.mark.versions
def test_torchserve_knows_these_keys() -> None:
    """Compare the keys with the constants in the class that reads them."""
    [packages] = (torchserve_python().parent.parent / "lib").glob("python3*/site-packages")
    with zipfile.ZipFile(packages / "ts/frontend/model-server.jar") as jar:
        constants = jar.read("org/pytorch/serve/util/ConfigManager.class").decode("latin-1")
    launcher = (packages / "ts/model_server.py").read_text()
    assert [key for key in KNOWN_KEYS if key not in constants + launcher] == []
    # Its constants, such as TS_JOB_QUEUE_SIZE, have the names of the keys.
    names = {name.lower() for name in re.findall(r"TS_[A-Z0-9_]{4,}", constants)}
    unknown = {name for name in names if not {name, name.removeprefix("ts_")} & KNOWN_KEYS}
    assert unknown == {"ts_config_file", "ts_metrics", "ts_token_expiration_time_min"}
    assert not BOOLEAN_KEYS & NUMBER_KEYS
