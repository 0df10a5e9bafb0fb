"""Trees of a model store: checks, paths of this machine, and retention."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnbuild.bridges.torchserve.model_store import (
    ModelTree,
    apply_retention,
    archive_prefix,
    archives_to_move,
    check_config,
    find_config,
    repair_tree,
)
from fnbuild.bridges.torchserve.server_config import (
    ModelSettings,
    ServerConfig,
    parse,
    render,
)
from fnbuild.errors import Diagnostic, InputError
from fnbuild.models.torchserve_store import TreeStore
from fnbuild.models.upload import FolderTarget
from tests.bridges.torchserve.trees import ARTICLE, write_model, write_tree

OLD = ["cats_231230_1759.mar", "cats_231230_1800.mar", "cats_231230_1801.mar"]
NEW = ["cats_231231_0900.mar", "cats_240101_0000.mar", "cats_240101_0001.mar"]


def model_settings(archive: str) -> ModelSettings:
    return ModelSettings(
        default_version=True, mar_name=archive, min_workers=1, max_workers=1, batch_size=1,
        max_batch_delay=100,
    )  # fmt: skip


def snapshot_tree(folder: Path, name: str, version: str, archive: str) -> Path:
    """Write a tree whose snapshot has one model."""
    snapshot = {name: {version: model_settings(archive)}}
    return write_tree(folder, render(ServerConfig(snapshot=snapshot)))


def diagnostics(config: Path) -> dict[str, Diagnostic]:
    """Return the diagnostics by rule."""
    return {item.rule: item for item in check_config(config)}


def test_a_tree_whose_names_and_versions_agree_has_no_problem(tmp_path: Path) -> None:
    config = snapshot_tree(tmp_path, "cats", "1.5", "cats.mar")
    write_model(tmp_path / "model-store" / "cats.mar", "cats", "1.5")
    assert len(check_config(config)) == 0
    assert find_config(tmp_path) == config
    assert find_config(config) == config
    assert find_config(tmp_path / "model-store") is None


@pytest.mark.parametrize(
    ("line", "column"), [("load_models=all", 13), ("load_models=old.mar,cats=new.mar", 13)]
)
def test_two_archives_of_one_model_and_version_are_an_error(
    tmp_path: Path, line: str, column: int
) -> None:
    config = write_tree(tmp_path, line)
    for file, name in (("old.mar", "cats"), ("new.mar", "cats"), ("dogs.mar", "dogs")):
        write_model(tmp_path / "model-store" / file, name, "1.5")
    [diagnostic] = check_config(config)
    assert diagnostic.rule == "duplicate-model"
    assert "are both version 1.5 of cats: the server does not start" in diagnostic.message
    assert "old.mar" in diagnostic.message
    assert "new.mar" in diagnostic.message
    assert "package it with another `--version`" in str(diagnostic.hint)
    assert diagnostic.span is not None
    assert (diagnostic.span.line, diagnostic.span.column) == (1, column)
    config.write_text("load_models=old.mar,cats2=new.mar")
    assert "duplicate-model" not in diagnostics(config)


def test_two_versions_of_a_snapshot_have_archives_of_their_own_versions(tmp_path: Path) -> None:
    versions = {name: model_settings(f"{name}.mar") for name in ("1.5", "2.0")}
    config = write_tree(tmp_path, render(ServerConfig(snapshot={"cats": versions})))
    for version in versions:
        write_model(tmp_path / "model-store" / f"{version}.mar", "cats", "1.5")
    before = config.read_text()
    assert "1.5.mar and 2.0.mar are both" in diagnostics(config)["duplicate-model"].message
    # Otherwise the snapshot would have one version twice, and one archive less.
    assert repair_tree(config) == []
    assert config.read_text() == before


@pytest.mark.parametrize("archive", ["cats.mar", "cats.tar.gz", "cats"])
def test_name_and_version_of_the_snapshot_are_those_of_the_archive(
    tmp_path: Path, archive: str
) -> None:
    config = snapshot_tree(tmp_path, "my_model", "1.0", archive)
    write_model(tmp_path / "model-store" / archive, "pipeline", "0.1")
    by_rule = diagnostics(config)
    assert set(by_rule) == {"model-name", "model-version"}
    assert f"{archive} was packaged as the model pipeline; clients" in by_rule["model-name"].message
    assert "has the version 0.1, by which clients" in by_rule["model-version"].message
    for rule in by_rule:
        span = by_rule[rule].span
        assert span is not None
        line = config.read_text().splitlines()[span.line - 1]
        assert line[span.column - 1 : span.end_column - 1] == '"1.0"'


def test_the_version_is_repaired(tmp_path: Path) -> None:
    config = snapshot_tree(tmp_path, "cats", "1.0", "cats.mar")
    write_model(tmp_path / "model-store" / "cats.mar", "cats", "0.1")
    before = config.read_text()
    [repair] = repair_tree(config)
    assert str(repair).endswith(":6: 1.0 became 0.1")
    assert config.read_text() == before.replace('"1.0"', '"0.1"')
    assert len(check_config(config)) == 0


def test_an_archive_that_is_missing_or_broken_is_an_error(tmp_path: Path) -> None:
    config = snapshot_tree(tmp_path, "cats", "1.0", "cats.mar")
    write_model(tmp_path / "model-store" / "dogs.mar", "dogs")
    missing = diagnostics(config)["missing-archive"]
    assert missing.message == "model-store has no cats.mar: the server does not start"
    assert missing.hint == "the archives are dogs.mar"
    (tmp_path / "model-store" / "cats.mar").write_bytes(b"PK\x03\x04")
    assert "damaged" in diagnostics(config)["archive"].message


def test_archives_of_load_models_exist(tmp_path: Path) -> None:
    config = write_tree(tmp_path, "load_models=a.mar, dogs=cats.mar,https://example.com/b.mar\n")
    write_model(tmp_path / "model-store" / "cats.mar", "cats")
    message = "model-store has no a.mar: the server starts without it"
    assert diagnostics(config)["missing-archive"].message == message


def test_a_backup_in_the_store_would_be_loaded_as_a_model(tmp_path: Path) -> None:
    config = write_tree(tmp_path, "load_models=all\n")
    write_model(tmp_path / "model-store" / "cats.mar", "cats")
    write_model(tmp_path / "model-store" / "dogs", "dogs")
    (tmp_path / "model-store" / "backup").mkdir()
    [problem] = check_config(config)
    assert problem.rule == "not-an-archive"
    assert "loads the folder model-store/backup as a model" in problem.message
    assert problem.hint == "move it beside model-store"
    config.write_text("load_models=cats.mar\n")
    assert len(check_config(config)) == 0


def test_settings_of_models_need_the_name_and_version_of_an_archive(tmp_path: Path) -> None:
    models = '{"cats": {"1.0": {"batchSize": 8}, "2.0": {"batchSize": 8}}}'
    config = write_tree(tmp_path, f"load_models=all\nmodels={models}\n")
    write_model(tmp_path / "model-store" / "cats.mar", "cats", "2.0")
    [problem] = check_config(config)
    assert (problem.rule, problem.span.line if problem.span else 0) == ("unused-settings", 2)
    assert problem.message == "no archive has the model cats 1.0: no effect"


def test_a_configuration_without_a_store_is_checked_alone(tmp_path: Path) -> None:
    config = tmp_path / "my.properties"
    config.write_text("load_models=cats.mar\n")
    assert len(check_config(config)) == 0


def test_paths_of_the_container_become_paths_of_this_machine(tmp_path: Path) -> None:
    config = write_tree(
        tmp_path, ARTICLE.read_text() + "metrics_config=/mnt/models/config/m.yaml\n"
    )
    before = config.read_bytes()
    text = ModelTree(config).local_config({"inference_address": "http://127.0.0.1:80"})
    values = parse(text)
    assert values.model_store == str(tmp_path / "model-store")
    assert values.other["metrics_config"] == str(tmp_path / "config" / "m.yaml")
    assert values.inference_address == "http://127.0.0.1:80"
    assert text.splitlines()[1:9] == ARTICLE.read_text().splitlines()[1:9]
    assert config.read_bytes() == before


def test_a_configuration_without_paths_gets_the_store(tmp_path: Path) -> None:
    config = write_tree(tmp_path, "load_models=all\nkeystore=/etc/keys/a\n")
    expected = f"load_models=all\nkeystore=/etc/keys/a\nmodel_store={tmp_path}/model-store\n"
    assert ModelTree(config).local_config({}) == expected


def test_the_newest_archives_stay() -> None:
    names = [*NEW, *OLD]
    random.shuffle(names)
    assert archives_to_move(names, "cats", 3) == OLD
    assert archives_to_move(names, "cats", 3, needed=[OLD[1]]) == [OLD[0], OLD[2], NEW[0]]
    assert archives_to_move(names, "cats", 1) == [*OLD, *NEW[:2]]


def test_a_store_with_fewer_archives_stays_as_it_is() -> None:
    assert archives_to_move(OLD, "cats", 3) == []
    assert archives_to_move([], "cats", 3) == []


def test_only_archives_with_the_name_and_a_stamp_are_moved() -> None:
    others = ["cats_other_231230_1759.mar", "cats2_231230_1759.mar", "cats_v1.mar", "cats.mar"]
    assert archives_to_move([*others, "cats_231230_1759.tgz", OLD[0]], "cats", 0) == [OLD[0]]
    assert archives_to_move(["cats_231230_1759.tar.gz", *NEW], "cats", 3) == [
        "cats_231230_1759.tar.gz"
    ]
    assert archive_prefix("cats_other_231230_1759.mar") == "cats_other"
    assert archive_prefix("cats.mar") == ""


@settings(max_examples=50, deadline=None)
@given(
    names=st.sets(
        st.builds(
            "{}_{:06}_{:04}.mar".format,
            st.sampled_from(["a", "a_b"]),
            st.integers(231230, 231233),
            st.integers(1, 4),
        )
    ),
    keep=st.integers(1, 5),
    data=st.data(),
)
def test_retention_keeps_the_newest_and_the_needed(
    names: set[str], keep: int, data: st.DataObject
) -> None:
    needed = data.draw(st.sets(st.sampled_from(sorted(names)))) if names else set()
    moved = archives_to_move(names, "a", keep, needed)
    own = [name for name in names if archive_prefix(name) == "a"]
    stay = sorted(set(own) - set(moved))
    assert len(stay) == max(min(keep, len(own)), len(needed.intersection(own)))
    assert not set(moved) & needed
    assert all(name >= max(moved, default="") for name in stay if name not in needed)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with six archives."""
    folder = tmp_path / "tree" / "model-store"
    folder.mkdir(parents=True)
    for name in (*OLD, *NEW, "dogs_231230_1759.mar"):
        (folder / name).write_text(name)
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_old_archives_move_to_a_backup_beside_the_store(store: Path) -> None:
    assert apply_retention(TreeStore(FolderTarget(store.parent)), "cats", 3) == OLD
    assert names_in(store) == sorted([*NEW, "dogs_231230_1759.mar"])
    assert names_in(store.parent / "backup") == sorted(OLD)
    assert (store.parent / "backup" / OLD[0]).read_text() == OLD[0]
    assert apply_retention(TreeStore(FolderTarget(store.parent)), "cats", 3) == []
    TreeStore(FolderTarget(store.parent)).restore(OLD[1])
    assert (store / OLD[1]).read_text() == OLD[1]


def test_a_store_with_few_archives_gets_no_backup(store: Path) -> None:
    assert apply_retention(TreeStore(FolderTarget(store.parent)), "dogs", 3) == []
    assert apply_retention(TreeStore(FolderTarget(store.parent / "missing")), "dogs", 3) == []
    assert names_in(store.parent) == ["model-store"]


def test_a_failure_half_way_moves_nothing_and_overwrites_nothing(store: Path) -> None:
    backup = store.parent / "backup"
    backup.mkdir()
    (backup / OLD[2]).write_text("another")
    before = names_in(store)
    with pytest.raises(InputError, match=f"backup/{OLD[2]} exists already"):
        apply_retention(TreeStore(FolderTarget(store.parent)), "cats", 3)
    assert names_in(store) == before
    assert names_in(backup) == [OLD[2]]
    assert (backup / OLD[2]).read_text() == "another"


def test_a_store_that_is_read_only_stays_as_it_is(tiny_disk: Path) -> None:
    folder = tiny_disk / "model-store"
    folder.mkdir()
    for name in OLD:
        (folder / name).write_text(name)
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(InputError, match=r"cannot write .*/backup/.*: Read-only file system"):
        apply_retention(TreeStore(FolderTarget(tiny_disk)), "cats", 1)
    assert names_in(folder) == sorted(OLD)
