"""Functions of a whole tree of TorchServe."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.bridges.torchserve.import_archive import import_archive
from fnbuild.bridges.torchserve.import_tree import plan_tree
from fnbuild.bridges.torchserve.model_store import repair_tree
from fnbuild.bridges.torchserve.server_config import ModelSettings, ServerConfig, render
from fnbuild.errors import ConfigError, InputError
from fnbuild.function.types import Function, Trigger
from tests.bridges.torchserve.trees import ARTICLE, write_model, write_tree


def settings(archive: str, default: bool = True, **values: int) -> ModelSettings:
    required = {"min_workers": 1, "max_workers": 1, "batch_size": 1, "max_batch_delay": 100}
    return ModelSettings(default_version=default, mar_name=archive, **required | values)


def imported(config: Path, folder: Path) -> dict[str, Function]:
    """Return the functions of a tree by their names."""
    return {
        item.options.function_name: import_archive(
            item.archive, folder / item.options.function_name, item.options
        )
        for item in plan_tree(config).imports
    }


def trigger_of(function: Function) -> Trigger:
    _, trigger = function.http_trigger() or pytest.fail("no http trigger")
    return trigger


def test_the_tree_of_the_article_is_imported_after_its_repair(tmp_path: Path) -> None:
    config = write_tree(tmp_path / "tree", ARTICLE.read_text())
    write_model(tmp_path / "tree" / "model-store" / "my_model.mar", "pipeline", "0.1")
    with pytest.raises(ConfigError, match=r"cannot serve .* as it is written") as raised:
        plan_tree(config)
    command = f"`fnbuild validate {config} --fix`"
    assert raised.value.hint == f"{command} repairs what has one remedy"
    repair_tree(config)
    [function] = imported(config, tmp_path).values()
    assert function.metadata.name == "my-model"
    trigger = trigger_of(function)
    assert (trigger.attributes["model"], trigger.attributes["version"]) == ("my_model", "0.1")
    assert trigger.workers == 3
    assert trigger.batch is not None
    assert (trigger.batch.batch_size, trigger.batch.timeout) == (4, "100ms")
    assert function.spec.event_timeout == "120s"


def test_every_key_without_a_counterpart_is_named(tmp_path: Path) -> None:
    config = write_tree(
        tmp_path, "load_models=cats.mar,https://example.com/a.mar\nkeystore_pass=x\nvmargs=-Xmx1g\n"
    )
    write_model(tmp_path / "model-store" / "cats.mar", "cats")
    assert plan_tree(config).notes == [
        f"{config}: functions have no counterpart of keystore_pass, vmargs",
        "load_models: https://example.com/a.mar is not in the store; import it by itself",
    ]


def test_the_default_version_gets_the_name_and_others_their_version(tmp_path: Path) -> None:
    snapshot = {
        "Cats_small": {
            "1.0": settings("old.mar", True, max_workers=5, response_timeout=7),
            "2.0": settings("new.tar.gz", False),
        },
        "dogs": {"1.0": settings("dogs", True, startup_timeout=9)},
    }
    config = write_tree(tmp_path / "tree", render(ServerConfig(snapshot=snapshot)))
    store = tmp_path / "tree" / "model-store"
    for archive, name, version in (
        ("old.mar", "Cats_small", "1.0"),
        ("new.tar.gz", "Cats_small", "2.0"),
        ("dogs", "dogs", "1.0"),
    ):
        write_model(store / archive, name, version)
    functions = imported(config, tmp_path)
    assert list(functions) == ["cats-small", "cats-small-2-0", "dogs"]
    attributes = {
        name: (item.attributes.get("model"), item.attributes["version"], item.workers)
        for name, item in ((name, trigger_of(function)) for name, function in functions.items())
    }
    assert attributes == {
        "cats-small": ("Cats_small", "1.0", 5),
        "cats-small-2-0": ("Cats_small", "2.0", 1),
        "dogs": (None, "1.0", 1),
    }
    assert functions["cats-small"].spec.event_timeout == "7s"
    assert functions["dogs"].spec.readiness_timeout_seconds == 9


def test_models_with_similar_names_become_different_functions(tmp_path: Path) -> None:
    config = write_tree(tmp_path, "load_models=all\n")
    for index, name in enumerate(("a_b", "a-b", "A_b")):
        write_model(config.parents[1] / "model-store" / f"{index}.mar", name, "1.0")
    names = [item.options.function_name for item in plan_tree(config).imports]
    assert sorted(names) == ["a-b", "a-b-1-0", "a-b-1-0-2"]


def test_the_newest_archive_of_a_store_gets_the_name(tmp_path: Path) -> None:
    config = write_tree(tmp_path / "tree", "load_models=all\njob_queue_size=7\n")
    for stamp in ("231230_1759", "240101_0000", "231231_0900"):
        name = f"embedding_{stamp}"
        write_model(tmp_path / "tree" / "model-store" / f"{name}.mar", name, stamp)
    functions = imported(config, tmp_path)
    assert list(functions) == ["embedding", "embedding-231230-1759", "embedding-231231-0900"]
    attributes = trigger_of(functions["embedding"]).attributes
    # Clients call each archive under its whole name.
    assert attributes["model"] == "embedding_240101_0000"
    assert attributes["maxBacklog"] == 7


def test_load_models_selects_and_renames_archives(tmp_path: Path) -> None:
    config = write_tree(tmp_path / "tree", "load_models=pets=cats.mar, dogs.mar\n")
    for name in ("cats", "dogs", "birds"):
        write_model(tmp_path / "tree" / "model-store" / f"{name}.mar", name)
    assert list(imported(config, tmp_path)) == ["dogs", "pets"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [({}, (4, "5s", 8)), ({"config_file": b"batchSize: 2\n"}, (4, "120s", 2))],
)
def test_settings_of_models_are_those_that_torchserve_applies(
    tmp_path: Path, files: dict[str, bytes], expected: tuple[int, str, int]
) -> None:
    models = '{"cats": {"1.0": {"maxWorkers": 4, "batchSize": 8, "responseTimeout": 5}}}'
    config = write_tree(tmp_path / "tree", f"load_models=all\nmodels={models}\n")
    write_model(tmp_path / "tree" / "model-store" / "cats.mar", "cats", **files)
    [function] = imported(config, tmp_path).values()
    trigger = trigger_of(function)
    assert trigger.batch is not None
    timeout = function.spec.event_timeout
    assert (trigger.workers, timeout, trigger.batch.batch_size) == expected


def test_a_configuration_without_archives_is_an_error(tmp_path: Path) -> None:
    config = tmp_path / "config.properties"
    config.write_text("load_models=all\n")
    with pytest.raises(InputError, match=r"config\.properties has no archives beside it"):
        plan_tree(config)
