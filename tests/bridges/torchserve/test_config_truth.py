"""The rules for config.properties, compared with what TorchServe does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from fnbuild.bridges.torchserve.import_archive import import_archive
from fnbuild.bridges.torchserve.import_tree import plan_tree
from fnbuild.bridges.torchserve.model_store import ModelTree, check_config, repair_tree
from fnbuild.bridges.torchserve.properties import set_values
from fnbuild.builder.processor_settings import processor_settings
from tests.bridges.torchserve.trees import ARTICLE, write_model, write_tree
from tests.engine import free_port, until
from tests.runtime.conftest import running
from tests.torchserve_server import READY_SECONDS, TorchServe, running_torchserve

pytestmark = [pytest.mark.system, pytest.mark.versions]

_NULL = "java.lang.NullPointerException"
SMALL = {"vmargs": "-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"}


def article_tree(folder: Path, **files: bytes) -> Path:
    """Write the article's tree, whose archive has another name and version."""
    config = write_tree(folder, ARTICLE.read_text())
    write_model(folder / "model-store" / "my_model.mar", "pipeline", "0.1", **files)
    return config


def local_values(**ports: int) -> dict[str, str]:
    address = "http://127.0.0.1:"
    return {
        "inference_address": f"{address}{ports['inference']}",
        "management_address": f"{address}{ports['management']}",
        "metrics_address": f"{address}{free_port()}",
        "grpc_inference_port": str(free_port()),
        "grpc_management_port": str(free_port()),
        "disable_token_authorization": "true",
        "load_models": "all",
        **SMALL,
    }


@pytest.fixture(scope="module")
def as_written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    """A server with the article's configuration, in which only paths and ports are local."""
    folder = tmp_path_factory.mktemp("tree")
    # pip would fail, and settings of the snapshot precede those of the archive.
    config = article_tree(
        folder, requirements_file=b"/missing/package.whl", config_file=b"batchSize: 2"
    )
    (folder / "model-store" / "backup").mkdir()
    port = free_port()
    text = ModelTree(config).local_config(local_values(inference=port, management=port))
    config.write_text(text)
    with running_torchserve(folder / "model-store", config=config, ready=False) as server:
        until("a prediction", lambda: answers(server, "my_model"), READY_SECONDS)
        yield server


def answers(server: TorchServe, model: str) -> bool:
    with suppress(requests.ConnectionError):
        return server.predict(model).status_code == 200
    return False


def test_an_inline_comment_of_a_boolean_makes_it_false(as_written: TorchServe) -> None:
    assert "Custom python dependency for model allowed: true\t\t# requ" in as_written.log()
    assert as_written.predict("my_model").status_code == 200
    assert "pip" not in as_written.log()


def test_an_unknown_key_has_no_effect(as_written: TorchServe) -> None:
    assert "Metrics mode: LOG" in as_written.log()


def test_the_snapshot_renames_the_model_and_the_manifest_has_the_version(
    as_written: TorchServe,
) -> None:
    assert as_written.models() == ["my_model"]
    [described] = as_written.describe("my_model")
    assert (described["modelVersion"], described["batchSize"]) == ("0.1", 4)
    assert as_written.predict("my_model").json()["model"] == "my_model"
    assert as_written.predict("pipeline").status_code == 404
    assert as_written.predict("my_model/1.0").status_code == 404


def test_load_models_has_no_effect_beside_a_snapshot(as_written: TorchServe) -> None:
    assert "backup" not in as_written.models()


def test_a_shared_port_answers_calls_with_a_version_with_404(as_written: TorchServe) -> None:
    assert as_written.ask("management", "/models/my_model").status_code == 200
    assert as_written.ask("management", "/models/my_model/0.1").status_code == 404
    path = "/models/my_model/0.1?min_worker=1"
    assert as_written.ask("management", path, method="PUT").status_code == 404


def test_the_article_s_tree_is_served_after_its_repair(tmp_path: Path) -> None:
    config = article_tree(tmp_path)
    assert check_config(config).errors
    repair_tree(config)
    assert check_config(config).errors == []
    ports = {"inference": free_port(), "management": free_port()}
    local = tmp_path / "local.properties"
    local.write_text(ModelTree(config).local_config(local_values(**ports)))
    with running_torchserve(tmp_path / "model-store", config=local) as server:
        assert "Custom python dependency for model allowed: true\n" in server.log()
        assert "Metrics mode: PROMETHEUS" in server.log()
        path = "/models/my_model/0.1?min_worker=1&synchronous=true"
        assert server.ask("management", path, method="PUT").status_code == 200
        expected = server.predict("my_model/0.1").json()
        assert server.predict("my_model").json() == expected
    assert replies_of_the_import(config, tmp_path) == [expected, expected]


def replies_of_the_import(config: Path, folder: Path) -> list[dict[str, Any]]:
    """Return what the function of the tree's model replies to the same requests."""
    [item] = plan_tree(config).imports
    code = folder / "function"
    function = import_archive(item.archive, code, item.options)
    home = folder / "processor"
    home.mkdir()
    paths = ("my_model", "my_model/0.1")
    settings = {**processor_settings(function), "code": str(code)}
    settings["env"] = {variable.name: variable.value for variable in function.spec.env}
    with running(home, "", **settings) as processor:
        replies = [requests.post(f"{processor.url}/predictions/{path}") for path in paths]
    return [reply.json() for reply in replies]


@pytest.fixture(scope="module")
def with_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, TorchServe]]:
    """A configuration that loads the whole store, and its server."""
    folder = tmp_path_factory.mktemp("models")
    settings = {"minWorkers": 2, "maxWorkers": 2, "batchSize": 9, "maxBatchDelay": 8}
    models = {"a": {"1.0": {**settings, "responseTimeout": 9}}, "b": {"2.0": settings}}
    values = local_values(inference=free_port(), management=free_port())
    values |= {"models": json.dumps(models), "default_response_timeout": "33"}
    values |= {"default_workers_per_model": "1"}
    config = write_tree(folder, set_values("", values))
    write_model(folder / "model-store" / "a.mar", "a", config_file=b"batchSize: 2\n")
    write_model(folder / "model-store" / "b.mar", "b")
    ignored = b"maxWorkers: 4\nbatchSize: '2'\nresponseTimeout: 0\n"
    write_model(folder / "model-store" / "c.mar", "c", config_file=ignored)
    write_model(folder / "model-store" / "d.tar.gz", "d")
    write_model(folder / "model-store" / "e", "e")
    (folder / "model-store" / "backup").mkdir()
    with running_torchserve(folder / "model-store", config=config, ready=False) as server:
        until("a prediction", lambda: answers(server, "a"), READY_SECONDS)
        yield config, server


def test_an_archive_with_settings_has_no_time_limits_of_the_server(
    with_models: tuple[Path, TorchServe], tmp_path: Path
) -> None:
    config, server = with_models
    [described] = server.describe("a")
    keys = ("minWorkers", "batchSize", "maxBatchDelay", "responseTimeout")
    assert [described[key] for key in keys] == [2, 2, 8, 120]
    (config.parents[1] / "model-store" / "backup").rmdir()
    item = plan_tree(config).imports[0]
    function = import_archive(item.archive, tmp_path / "function", item.options)
    _, trigger = function.http_trigger() or pytest.fail("no http trigger")
    assert (trigger.workers, function.spec.event_timeout) == (2, "120s")
    assert trigger.batch is not None
    assert (trigger.batch.batch_size, trigger.batch.timeout) == (2, "8ms")


def test_settings_of_other_types_and_workers_without_a_minimum_have_no_effect(
    with_models: tuple[Path, TorchServe],
) -> None:
    [described] = with_models[1].describe("c")
    keys = ("minWorkers", "maxWorkers", "batchSize", "responseTimeout")
    # The same as in test_import_archive.
    assert [described[key] for key in keys] == [1, 1, 1, 120]


def test_settings_of_models_for_another_version_have_no_effect(
    with_models: tuple[Path, TorchServe],
) -> None:
    config, server = with_models
    assert "unused-settings" in {item.rule for item in check_config(config)}
    [described] = server.describe("b")
    assert (described["batchSize"], described["responseTimeout"]) == (1, 33)


def test_a_backup_in_the_store_is_loaded_as_a_model(with_models: tuple[Path, TorchServe]) -> None:
    _, server = with_models
    assert server.models() == ["a", "b", "backup", "c", "d", "e"]


@pytest.mark.parametrize("model", ["a", "d", "e"])
def test_an_archive_of_every_format_is_served(
    with_models: tuple[Path, TorchServe], model: str
) -> None:
    _, server = with_models
    until("a prediction", lambda: answers(server, model), READY_SECONDS)


@pytest.mark.parametrize(
    ("key", "value", "output"),
    [
        (
            "model_snapshot",
            '{"modelCount": 1, "models": {"a": {"1": {"marName": "a.mar"}}}}',
            _NULL,
        ),
        ("job_queue_size", "1k", 'Invalid configuration: For input string: "1k"'),
        ("load_models", "all", "Model version 1.0 is already registered for model a"),
        ("keystore_pass", "$$FNBUILD_TEST$$", "Invalid Environment Variable FNBUILD_TEST"),
    ],
)
def test_a_server_does_not_start_with_what_is_reported(
    tmp_path: Path, key: str, value: str, output: str
) -> None:
    config = write_tree(tmp_path, "")
    write_model(tmp_path / "model-store" / "a.mar", "a")
    write_model(tmp_path / "model-store" / "b.mar", "a")
    values = local_values(inference=free_port(), management=free_port())
    config.write_text(set_values("", {**values, key: value}))
    lines = config.read_text().splitlines()
    spans = [item.span for item in check_config(config) if item.span]
    assert key in {lines[span.line - 1].partition("=")[0] for span in spans}
    with running_torchserve(tmp_path / "model-store", config=config, ready=False) as server:
        until("the end of the server", lambda: server.process.poll() is not None)
        assert output in server.log()
