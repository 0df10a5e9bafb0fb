"""`fnbuild package torchserve`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fnbuild.bridges.torchserve.archive import read_manifest
from tests.cli.conftest import Outcome
from tests.engine import free_port
from tests.torchserve_server import running_torchserve

Fnbuild = Callable[..., Outcome]

SEED_CONFIG = """\
inference_address=http://0.0.0.0:8082
management_address=http://0.0.0.0:8083
metrics_address=http://0.0.0.0:8084
job_queue_size=100
install_py_dep_per_model=true
load_models=all
"""


@pytest.fixture
def folder(tmp_path: Path, empty: Path) -> Path:
    """A function."""
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "function.yaml").write_text("metadata: {name: digits}\nspec:\n  handler: main:run\n")
    (folder / "main.py").write_text("def run(context, event):\n    return 'seven'\n")
    return folder


def test_the_archive_of_a_function_has_the_time_in_its_name(
    fnbuild: Fnbuild, folder: Path, tmp_path: Path
) -> None:
    done = fnbuild("package", "torchserve", "--path", folder, "--export-path", tmp_path / "store")

    assert done.status == 0, done.err
    archive = Path(done.out.strip())
    assert re.fullmatch(r"digits_\d{6}_\d{4}\.mar", archive.name)
    assert "wrote" in done.err
    assert read_manifest(archive).model.model_name == archive.stem


def test_the_configuration_of_a_server_is_written(
    fnbuild: Fnbuild, folder: Path, tmp_path: Path
) -> None:
    words = ["package", "torchserve", "--path", folder, "--export-path", tmp_path / "store"]
    words += ["--config-path", tmp_path / "config"]
    file = tmp_path / "config" / "config.properties"

    assert fnbuild(*words, "--load-models", "all").status == 0
    written = set(file.read_text().splitlines())
    assert written == {*SEED_CONFIG.splitlines(), "metrics_mode=prometheus"}

    flags = ("--disable-token-auth", "--enable-model-api", "--inference-port", 9082)
    archive = Path(fnbuild(*words, *flags).out.strip())
    values = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert values["inference_address"] == "http://0.0.0.0:9082"
    assert values["disable_token_authorization"] == values["enable_model_api"] == "true"
    assert "load_models" not in values
    (version,) = json.loads(values["model_snapshot"])["models"]["digits"].values()
    assert version["marName"] == archive.name


@pytest.mark.system
def test_a_server_with_that_configuration_serves_the_archive_under_its_short_name(
    fnbuild: Fnbuild, folder: Path, tmp_path: Path
) -> None:
    with (folder / "function.yaml").open("a") as config:
        config.write("  eventTimeout: 33s\n")
    words = ["package", "torchserve", "--path", folder, "--export-path", tmp_path / "store"]
    for api in ("inference", "management", "metrics"):
        words += [f"--{api}-port", free_port()]
    archive = Path(fnbuild(*words, "--config-path", tmp_path).out.strip())
    older = archive.with_name("digits_200101_0000.mar")
    older.write_bytes(archive.read_bytes())
    file = tmp_path / "config.properties"
    grpc = f"grpc_inference_port={free_port()}\ngrpc_management_port={free_port()}\n"
    file.write_text(file.read_text().replace("0.0.0.0", "127.0.0.1") + grpc)

    with running_torchserve(archive.parent, config=file, options=()) as server:
        assert server.models() == ["digits"]
        (version,) = server.describe("digits")
        assert version["modelVersion"] == read_manifest(archive).model.model_version
        # A snapshot takes precedence over the archive's model-config.yaml.
        assert version["responseTimeout"] == 33
        assert server.predict("digits").text == "seven"


def test_files_are_packed_as_by_torch_model_archiver(
    fnbuild: Fnbuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "handler.py").write_text("def handle(data, context): ...\n")
    (tmp_path / "model.pt").write_bytes(b"weights")
    (tmp_path / "requirements.txt").write_text("pillow\n")
    words = "--model-name pipeline --version 0.1 --handler handler.py --serialized-file model.pt"
    words += " -r requirements.txt --runtime python3"
    done = fnbuild("package", "torchserve", *words.split())

    assert done.status == 0, done.err
    assert done.out == "pipeline.mar\n"
    manifest = read_manifest(tmp_path / "pipeline.mar")
    assert (manifest.runtime, manifest.model.handler) == ("python3", "handler.py")
    assert manifest.model.files == ["model.pt", "requirements.txt"]
    again = fnbuild("package", "torchserve", *words.split())
    assert again.status == 1
    assert again.err == "error: pipeline.mar exists already\nhint: `--force` replaces it\n"
    assert fnbuild("package", "torchserve", *words.split(), "-f").status == 0


def test_a_store_has_files_only(fnbuild: Fnbuild, folder: Path, tmp_path: Path) -> None:
    words = ("--path", folder, "--store", tmp_path / "tree", "--archive-format", "no-archive")
    done = fnbuild("package", "torchserve", *words)
    assert (done.status, "a store cannot have an archive that is a folder" in done.err) == (2, True)
    assert not (tmp_path / "tree").exists()


def test_two_apis_cannot_have_one_port(fnbuild: Fnbuild, folder: Path) -> None:
    done = fnbuild("package", "torchserve", "--path", folder, "--inference-port", 8083)
    assert (done.status, "two APIs have one port" in done.err) == (2, True)


@pytest.mark.parametrize("words", [(), ("--path", ".", "--handler", "handler.py")])
def test_either_a_function_or_a_handler_is_packed(fnbuild: Fnbuild, words: tuple) -> None:
    done = fnbuild("package", "torchserve", *words)
    assert done.status == 2
    assert "`--path FOLDER` names a function, `--handler FILE --model-name NAME` files" in done.err


def test_archives_are_published_to_a_store_that_keeps_the_newest(
    fnbuild: Fnbuild, folder: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    words = ("package", "torchserve", "--path", folder, "--store", tree, "--keep", 2)
    for _ in range(2):
        assert fnbuild(*words).status == 0
    first, second = sorted(path.name for path in (tree / "model-store").iterdir())
    done = fnbuild(*words)
    assert (done.status, done.out) == (0, f"file://{tree}\n")
    assert f"moved {first} to the backup\npublished digits_" in done.err
    assert [path.name for path in (tree / "backup").iterdir()] == [first]
    assert len(list((tree / "model-store").iterdir())) == 2
    assert second in {path.name for path in (tree / "model-store").iterdir()}
    assert fnbuild("validate", tree).err == "1 configuration: 0 errors, 0 warnings\n"
    assert list(folder.glob("*.mar")) == []
