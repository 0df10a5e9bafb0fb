"""Archives of functions and of plain files."""

from __future__ import annotations

import json
import multiprocessing
import os
import zipfile
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml

from fnbuild.bridges.torchserve.archive import read_manifest, unpack
from fnbuild.bridges.torchserve.content import ENTRY_FILE
from fnbuild.bridges.torchserve.export import (
    VERSION_FORMAT,
    ExportedArchive,
    ExportOptions,
    config_warnings,
    export_files,
    export_function,
    snapshot_settings,
)
from fnbuild.bridges.torchserve.import_archive import import_archive
from fnbuild.errors import BuildError, ConflictError, InputError
from fnbuild.function.reader import load_function
from fnbuild.runtime.torchserve import MANIFEST_PATH
from tests.torchserve_server import archive as make_archive

CONFIG = """\
metadata: {name: digits}
spec:
  handler: main:handler
"""
MAIN = "def handler(context, event):\n    return 'ok'\n"


@pytest.fixture(autouse=True)
def _data_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path_factory.getbasetemp() / "data"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A function."""
    folder = tmp_path / "function"
    folder.mkdir()
    (folder / "function.yaml").write_text(CONFIG)
    (folder / "main.py").write_text(MAIN)
    return folder


def export(folder: Path, **options: object) -> ExportedArchive:
    chosen = ExportOptions(**{"export_path": folder.parent / "store", **options})
    return export_function(load_function(folder).function, folder, chosen)


def names(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as members:
        return members.namelist()


def read(archive: Path, name: str) -> str:
    with zipfile.ZipFile(archive) as members:
        return members.read(name).decode()


def content(archive: Path, folder: Path) -> dict[str, bytes]:
    """Return the files of an archive of any format."""
    top = unpack(archive, folder).folder
    paths = (path for path in top.rglob("*") if path.is_file())
    return {str(path.relative_to(top)): path.read_bytes() for path in paths}


def test_the_archive_of_a_function_has_its_folder_and_what_its_handler_needs(folder: Path) -> None:
    (folder / "models").mkdir()
    (folder / "models" / "net.py").write_text("")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "main.pyc").write_text("")

    exported = export(folder)

    files = set(names(exported.path))
    assert {"main.py", "function.yaml", "models/net.py", "model-config.yaml"} <= files
    assert {"fnbuild/vision/__init__.py", "nuclio_sdk/__init__.py", ENTRY_FILE} <= files
    assert not [name for name in files if "pycache" in name or "processor/" in name]
    manifest = json.loads(read(exported.path, MANIFEST_PATH))
    version = exported.manifest.model.model_version
    moment = datetime.strptime(version, VERSION_FORMAT)
    assert manifest == {
        "createdOn": moment.strftime("%d/%m/%Y %H:%M:%S"),
        "runtime": "python",
        "model": {
            "modelName": f"digits_{version}",
            "handler": ENTRY_FILE,
            "modelVersion": version,
            "configFile": "model-config.yaml",
        },
        "archiverVersion": exported.manifest.archiver_version,
    }
    assert exported.path.name == f"digits_{version}.mar"
    assert exported.name == "digits"


def test_equal_functions_give_equal_archives(folder: Path, tmp_path: Path) -> None:
    first = export(folder, export_path=tmp_path / "a", version="261122_0911")
    second = export(folder, export_path=tmp_path / "b", version="261122_0911")

    assert first.path.read_bytes() == second.path.read_bytes()


@pytest.mark.parametrize(
    ("mode", "timeout", "delay"),
    [
        ("enable", "50ms", 50),
        ("adaptive", "50ms", 50),
        ("enable", "2s", 2000),
        ("adaptive", "2s", 100),
    ],
)
def test_the_trigger_becomes_the_configuration_of_the_model(
    folder: Path, mode: str, timeout: str, delay: int
) -> None:
    (folder / "function.yaml").write_text(
        CONFIG
        + f"""\
  eventTimeout: 1500ms
  readinessTimeoutSeconds: 300
  resources: {{limits: {{nvidia.com/gpu: 1}}}}
  triggers:
    http:
      kind: http
      maxWorkers: 3
      batch: {{mode: {mode}, batchSize: 4, timeout: {timeout}}}
"""
    )
    exported = export(folder, version="1.0")

    config = yaml.safe_load(read(exported.path, "model-config.yaml"))
    assert config == {
        "minWorkers": 3,
        "maxWorkers": 3,
        "batchSize": 4,
        "maxBatchDelay": delay,
        "responseTimeout": 2,
        "startupTimeout": 300,
        "deviceType": "gpu",
    }
    assert exported.config == config
    settings = snapshot_settings(config, exported.path.name)
    assert (settings.mar_name, settings.min_workers, settings.batch_size) == ("digits.mar", 3, 4)
    assert (settings.max_batch_delay, settings.response_timeout) == (delay, 2)


def test_a_configuration_of_the_folder_or_the_command_line_is_kept(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "model-config.yaml").write_text("minWorkers: 7\n")
    assert read(export(folder).path, "model-config.yaml") == "minWorkers: 7\n"
    (folder / "model-config.yaml").unlink()
    own = tmp_path / "own.yaml"
    own.write_text("minWorkers: 9\nmaxWorkers: 9\n")

    exported = export(folder, config_file=own)
    assert exported.manifest.model.config_file == "own.yaml"
    assert read(exported.path, "own.yaml") == own.read_text()
    assert exported.config == {"minWorkers": 9, "maxWorkers": 9}
    own.write_text("[1")
    with pytest.raises(InputError, match=r"own\.yaml is not YAML"):
        export(folder, config_file=own)


def test_a_file_of_the_folder_may_be_named_as_an_option(folder: Path, tmp_path: Path) -> None:
    (folder / "model.pt").write_bytes(b"weights")
    (tmp_path / "model.pt").write_bytes(b"weights")
    exported = export(folder, serialized_file=tmp_path / "model.pt")
    assert exported.manifest.model.serialized_file == "model.pt"


def test_secret_values_are_not_in_the_archive(folder: Path) -> None:
    env = "  env: [{name: MODE, value: fast}, {name: API_TOKEN, value: sesame-street}]\n"
    (folder / "function.yaml").write_text(CONFIG + env)

    exported = export(folder)

    with zipfile.ZipFile(exported.path) as members:
        assert not any(b"sesame" in members.read(name) for name in members.namelist())
    assert "'MODE': 'fast'" in read(exported.path, ENTRY_FILE)
    (warning,) = exported.warnings
    assert warning.startswith("API_TOKEN: the archive has no secret values")


def test_a_model_that_fnbuild_would_download_is_a_warning(folder: Path) -> None:
    env = "  env: [{name: STORAGE_URI, value: 's3://models/digits/'}]\n"
    (folder / "function.yaml").write_text(CONFIG + env)
    (warning,) = export(folder).warnings
    assert "TorchServe does not download the model of STORAGE_URI" in warning


def test_requirements_are_those_of_the_file_and_of_the_build(folder: Path) -> None:
    (folder / "requirements.txt").write_text("# pictures\npillow>=10\n")
    exported = export(folder)
    assert exported.manifest.model.requirements_file == "requirements.txt"
    assert not exported.warnings

    build = """\
  build:
    directives:
      preCopy:
        - {kind: RUN, value: apt-get install -y libgl1}
        - {kind: RUN, value: pip install --index-url https://example.org/simple torch numpy==2.4.6}
"""
    (folder / "function.yaml").write_text(CONFIG + build)
    exported = export(folder)
    assert exported.manifest.model.requirements_file == "fnbuild-requirements.txt"
    assert read(exported.path, "fnbuild-requirements.txt").splitlines() == [
        "--index-url https://example.org/simple",
        "torch",
        "numpy==2.4.6",
        "pillow>=10",
    ]
    ignored, torch = exported.warnings
    assert "have no effect on the archive: apt-get install -y libgl1" in ignored
    assert "a server with install_py_dep_per_model installs it again for each model" in torch


def test_a_link_becomes_the_file_that_it_leads_to(folder: Path) -> None:
    (folder / "weights.pt").write_text("weights")
    (folder / "latest.pt").symlink_to("weights.pt")
    assert read(export(folder).path, "latest.pt") == "weights"

    (folder / "data").mkdir()
    (folder / "more").symlink_to("data")
    with pytest.raises(InputError, match=r"the link .*more does not lead to a file"):
        export(folder)
    (folder / "more").unlink()
    (folder / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(BuildError, match="the link passwd leads out of the function's folder"):
        export(folder)


def test_a_handler_that_does_not_exist_is_a_clear_error(folder: Path) -> None:
    (folder / "main.py").unlink()
    with pytest.raises(InputError, match="'main:handler' does not exist: the folder has no main"):
        export(folder)


@pytest.mark.parametrize("name", ["MAR-INF/x", "fnbuild/x.py", "nuclio_sdk/x.py", ENTRY_FILE])
def test_a_file_in_the_place_of_one_of_the_archive_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("")
    with pytest.raises(InputError, match=f"an archive has its own {name}"):
        export(folder)


def test_a_name_that_torchserve_does_not_accept_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="'-my model' cannot be the name of a model"):
        export(folder, model_name="-my model")


def test_two_builds_in_one_minute_have_names_in_their_order(folder: Path) -> None:
    paths = [export(folder).path.name for _ in range(3)]

    assert sorted(paths) == paths
    assert len(set(paths)) == 3
    # Another name with the same beginning is another series.
    assert export(folder, model_name="digits_big").path.name > "digits_big_"
    later = datetime.now() + timedelta(days=1)
    (folder.parent / "store" / f"digits_{later.strftime(VERSION_FORMAT)}.mar").touch()
    assert export(folder).path.name > f"digits_{later.strftime(VERSION_FORMAT)}.mar"


def test_concurrent_builds_have_distinct_names(folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=export, args=(folder,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    archives = sorted((folder.parent / "store").iterdir())
    assert [path.suffix for path in archives] == [".mar"] * 4
    assert len({read_manifest(path).model.model_version for path in archives}) == 4


def test_a_version_of_the_user_is_taken_as_it_is(folder: Path) -> None:
    exported = export(folder, model_name="pipeline", version="0.1")

    assert exported.path.name == "pipeline.mar"
    model = exported.manifest.model
    assert (model.model_name, model.model_version) == ("pipeline", "0.1")
    with pytest.raises(ConflictError, match="exists already"):
        export(folder, model_name="pipeline", version="0.1")
    export(folder, model_name="pipeline", version="0.2", force=True)
    assert read_manifest(exported.path).model.model_version == "0.2"


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the article: a handler, weights, and a folder with the rest."""
    sources = tmp_path / "v1"
    extra = sources / "extra"
    (extra / "sub_module").mkdir(parents=True)
    (extra / "__pycache__").mkdir()
    (extra / "__pycache__" / "config.pyc").write_text("")
    (extra / "sub_module" / "layers.py").write_text("LAYERS = 3\n")
    (extra / "config.py").write_text("SIZE = 28\n")
    (extra / "requirements.txt").write_text("pillow\n")
    (sources / "handler.py").write_text("def handle(data, context):\n    return data\n")
    (sources / "net.py").write_text("class Net: ...\n")
    (sources / "pipeline.pth").write_bytes(os.urandom(1000))
    (sources / "settings.yaml").write_text("minWorkers: 1\n")
    (sources / "notes-1.txt").write_text("one")
    (sources / "notes-2.txt").write_text("two")
    monkeypatch.chdir(sources)
    return sources


ARTICLE = {
    "model_name": "pipeline",
    "version": "0.1",
    "handler": "handler.py",
    "serialized_file": Path("pipeline.pth"),
    "model_file": Path("net.py"),
    "extra_files": "extra,notes-?.txt",
    "requirements_file": Path("extra/requirements.txt"),
    "config_file": Path("settings.yaml"),
}


@pytest.mark.system
@pytest.mark.parametrize("archive_format", ["default", "zip-store", "tgz", "no-archive"])
def test_plain_files_give_the_archive_of_torch_model_archiver(
    sources: Path, archive_format: str
) -> None:
    golden = sources.parent / "golden"
    golden.mkdir()
    words = [f"--archive-format={archive_format}"]
    for name, value in ARTICLE.items():
        if name not in ("model_name", "version", "handler"):
            words.append(f"--{name.replace('_', '-')}={value}")
    theirs = make_archive("pipeline", "handler.py", golden, *words, version="0.1")

    options = ExportOptions(export_path=sources, archive_format=archive_format, **ARTICLE)
    ours = export_files(options).path

    assert ours.name == theirs.name
    contents = [content(path, golden / f"unpacked-{i}") for i, path in enumerate((ours, theirs))]
    manifests = [json.loads(files.pop(MANIFEST_PATH)) for files in contents]
    assert contents[0] == contents[1]
    for manifest in manifests:
        assert datetime.strptime(manifest.pop("createdOn"), "%d/%m/%Y %H:%M:%S")
        assert manifest.pop("archiverVersion")
    assert manifests[0] == manifests[1]
    assert list(manifests[0]["model"]) == list(manifests[1]["model"])
    if ours.suffix == ".mar":
        kinds = [
            {item.filename: item.compress_type for item in zipfile.ZipFile(path).infolist()}
            for path in (ours, theirs)
        ]
        assert kinds[0] == {name: kinds[1][name] for name in kinds[0]}


@pytest.mark.parametrize("handler", ["handler", "handler:handle", "handler.py:handle"])
def test_a_handler_may_name_its_function(sources: Path, handler: str) -> None:
    options = ExportOptions(export_path=sources, model_name="m", version="1", handler=handler)
    exported = export_files(options)

    assert names(exported.path) == ["handler.py", MANIFEST_PATH]
    assert exported.manifest.model.handler == handler


def test_a_handler_of_torchserve_needs_no_file(sources: Path) -> None:
    options = ExportOptions(
        export_path=sources,
        model_name="m",
        handler="image_classifier",
        serialized_file=Path("pipeline.pth"),
    )
    assert names(export_files(options).path) == ["pipeline.pth", MANIFEST_PATH]


def test_an_imported_archive_becomes_the_same_archive_again(sources: Path) -> None:
    weights = sources / "weights.pt"
    weights.write_bytes(b"weights")
    options = ExportOptions(
        export_path=sources, model_name="digits", handler="handler.py", serialized_file=weights
    )
    first = export_files(options)
    folder = sources / "imported"
    function = import_archive(first.path, folder)
    again = export_function(function, folder, ExportOptions(export_path=sources / "store"))
    assert sorted(names(again.path)) == sorted(names(first.path))
    assert again.manifest.model.handler == "handler.py"
    assert again.manifest.model.serialized_file == "weights.pt"
    assert again.name == "digits"


def test_settings_in_a_folder_that_differ_from_the_function_are_reported(folder: Path) -> None:
    (folder / "model-config.yaml").write_text(
        "minWorkers: 1\nmaxWorkers: 2\nbatchSize: 8\nown: 3\n"
    )
    function = load_function(folder).function
    [text] = config_warnings(function, folder)
    assert text == (
        "model-config.yaml has maxWorkers: 2, batchSize: 8, and function.yaml has maxWorkers: 1,"
        " batchSize: 1; servers use those of function.yaml"
    )
    attributes = "  platform: {attributes: {torchserve: {loadModels: all}}}\n"
    (folder / "function.yaml").write_text(CONFIG + attributes)
    function = load_function(folder).function
    [text] = config_warnings(function, folder)
    assert text.endswith("servers use those of model-config.yaml")
    (folder / "model-config.yaml").write_text("minWorkers: 1\nmaxWorkers: 1\n")
    assert config_warnings(function, folder) == ()


def test_blanks_after_the_commas_of_extra_files_are_accepted(sources: Path) -> None:
    options = ExportOptions(
        export_path=sources,
        model_name="m",
        handler="handler",
        extra_files="notes-1.txt, notes-2.txt , extra",
    )
    files = names(export_files(options).path)
    assert {"notes-1.txt", "notes-2.txt", "config.py", "sub_module/layers.py"} < set(files)


def test_two_files_with_one_base_name_are_refused(sources: Path) -> None:
    (sources / "extra" / "net.py").write_text("class Other: ...\n")
    options = ExportOptions(
        export_path=sources,
        model_name="m",
        handler="handler",
        model_file=Path("net.py"),
        extra_files="extra",
    )
    with pytest.raises(
        InputError, match=r"two files would be net\.py in the archive: net\.py and .*extra/net\.py"
    ):
        export_files(options)
    assert not list(sources.glob("*.mar"))


def test_one_sub_folder_of_two_extra_folders_is_merged(sources: Path) -> None:
    (sources / "more" / "sub_module").mkdir(parents=True)
    (sources / "more" / "sub_module" / "heads.py").write_text("")
    options = ExportOptions(
        export_path=sources, model_name="m", handler="handler", extra_files="extra,more"
    )
    files = names(export_files(options).path)
    assert {"sub_module/layers.py", "sub_module/heads.py"} < set(files)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"handler": "absent.py"}, "the handler 'absent.py' does not exist: there is no file"),
        ({"serialized_file": Path("absent.pt")}, "there is no file absent.pt"),
        ({"extra_files": "extra,absent"}, "there is no file absent"),
        ({"extra_files": "absent-*"}, r"there is no file absent-\*"),
        ({"model_name": ""}, "'' cannot be the name of a model"),
    ],
)
def test_a_missing_file_is_a_clear_error(sources: Path, changes: dict, message: str) -> None:
    options = {"model_name": "m", "handler": "handler.py", **changes}
    with pytest.raises(InputError, match=message):
        export_files(ExportOptions(export_path=sources, **options))
    assert not list(sources.glob("*.mar"))


def test_a_folder_in_the_temporary_folder_stays_there(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(sources))
    options = ExportOptions(
        export_path=sources,
        model_name="m",
        version="1",
        handler="handler",
        archive_format="no-archive",
    )
    for force in (False, True):
        exported = export_files(replace(options, force=force))
        assert sorted(path.name for path in exported.path.iterdir()) == ["MAR-INF", "handler.py"]


def test_a_folder_with_other_files_is_not_replaced(sources: Path) -> None:
    options = ExportOptions(
        export_path=sources,
        model_name="extra",
        version="1",
        handler="handler",
        archive_format="no-archive",
        force=True,
    )
    with pytest.raises(ConflictError, match=r"extra is a folder with other files"):
        export_files(options)
    assert (sources / "extra" / "config.py").is_file()


def test_sources_in_a_folder_of_the_models_name_in_tmp_are_not_destroyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    sources = tmp_path / "m"
    sources.mkdir()
    (sources / "handler.py").write_text("")

    options = ExportOptions(
        export_path=tmp_path,
        model_name="m",
        version="1",
        handler=str(sources / "handler"),
        force=True,
        extra_files=str(sources),
    )
    export_files(options)
    assert os.listdir(sources) == ["handler.py"]
    assert sorted(os.listdir(tmp_path)) == ["m", "m.mar"]
