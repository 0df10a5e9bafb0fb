"""Archives of functions in TorchServe's own loader of models, without its server."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from fnbuild.bridges.torchserve.archive import unpack
from fnbuild.bridges.torchserve.export import ExportOptions, export_function
from fnbuild.builder.torch_index import has_nvidia_driver
from fnbuild.function.reader import load_function
from tests.torchserve_server import archiver_python

pytestmark = pytest.mark.system

# Loads an archive for each scenario, in forks of one process that has imported TorchServe.
LOADER = """
import json, os, sys, traceback
import ts.context, ts.model_loader

def run(scenario):
    folder = scenario["folder"]
    sys.path.insert(0, folder)
    if "visible" in scenario:
        os.environ["CUDA_VISIBLE_DEVICES"] = scenario["visible"]
    if "refuse_mounts" in scenario:
        import fnbuild.runtime.worker.mount as mount
        mount.mount_folder = lambda *arguments: "refused"
    loader = ts.model_loader.TsModelLoader()
    service = loader.load("m", folder, "fnbuild_handler.py", scenario["gpu"], 1)
    context = service.context
    context.request_processor = [ts.context.RequestProcessor({"Content-Type": "text/plain"})]
    context.request_ids = {0: "id"}
    replies = service._entry_point([{"body": bytearray(b"x")}], context)
    return {"reply": replies[0].decode(), "status": context.get_response_status(0)[0]}

results = {}
for name, scenario in json.loads(sys.argv[1]).items():
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            result = run(scenario)
        except BaseException:
            result = {"error": traceback.format_exc()}
        os.write(writer, json.dumps(result).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        results[name] = json.load(stream)
    os.wait()
with open(sys.argv[2], "w") as file:
    json.dump(results, file)
"""
SOURCES = {
    "gpus": """
import os
def init_context(context):
    context.user_data.gpus = os.environ["CUDA_VISIBLE_DEVICES"]
def handler(context, event):
    import torch
    return "%s %s" % (context.user_data.gpus, torch.cuda.is_initialized())
""",
    "torch": """
import torch
def handler(context, event):
    return "%d %d" % (torch.cuda.device_count(), torch.ones(2, device="cuda").sum())
""",
    "import": "import absent_module\ndef handler(context, event): ...\n",
    "files": """
def handler(context, event):
    return open("/opt/nuclio/words.txt").read() + " " + open("words.txt").read()
""",
    "memory": "def handler(context, event): raise MemoryError()\n",
    "cuda": "def handler(context, event): raise RuntimeError('CUDA error: out of memory')\n",
}
SCENARIOS: dict[str, dict[str, Any]] = {
    "gpus of the CPU": {"gpu": None},
    "gpus 0": {"gpu": 0},
    "gpus 1": {"gpu": 1},
    "gpus 1 of two": {"gpu": 1, "visible": "4,6"},
    "torch": {"gpu": 0},
    "import": {"gpu": None},
    "files": {"gpu": None},
    "files without mounts": {"gpu": None, "refuse_mounts": True},
    "memory": {"gpu": None},
    "cuda": {"gpu": None},
}

Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The reply or the error of the function of each scenario."""
    tmp = tmp_path_factory.mktemp("loaded")
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(tmp / "data"))
        for name, source in SOURCES.items():
            folder = tmp / name
            folder.mkdir()
            config = f"metadata: {{name: {name}}}\nspec: {{handler: 'main:handler'}}\n"
            (folder / "function.yaml").write_text(config)
            (folder / "main.py").write_text(source)
            (folder / "words.txt").write_text("words")
            options = ExportOptions(export_path=tmp)
            archive = export_function(load_function(folder).function, folder, options).path
            folders[name] = str(unpack(archive, tmp / f"{name}-unpacked").folder)
    scenarios = {
        name: {**scenario, "folder": folders[name.split()[0]]}
        for name, scenario in SCENARIOS.items()
    }
    output = tmp / "results"
    command = [archiver_python(), "-c", LOADER, json.dumps(scenarios), output]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    loaded: Results = json.loads(output.read_text())
    return loaded


@pytest.mark.parametrize(
    ("scenario", "visible"),
    [("of the CPU", ""), ("0", "0"), ("1", "1"), ("1 of two", "6")],
)
def test_the_gpu_of_the_context_is_the_visible_one_when_the_model_is_loaded(
    results: Results, scenario: str, visible: str
) -> None:
    assert results[f"gpus {scenario}"].get("reply") == f"{visible} False"


@pytest.mark.skipif(not has_nvidia_driver(), reason="no NVIDIA GPU on this machine")
def test_torch_sees_the_assigned_gpu_only(results: Results) -> None:
    assert results["torch"].get("reply") == "1 2"


def test_an_import_error_of_the_handler_names_its_module(results: Results) -> None:
    error = results["import"]["error"]
    assert "No module named 'absent_module'" in error
    assert "torch_handler" not in error
    assert 'main.py", line 1' in error


@pytest.mark.parametrize("scenario", ["files", "files without mounts"])
def test_files_of_the_archive_are_at_opt_nuclio(results: Results, scenario: str) -> None:
    assert results[scenario].get("reply") == "words words"


@pytest.mark.parametrize("scenario", ["memory", "cuda"])
def test_an_error_of_memory_is_the_reply_to_its_own_request(
    results: Results, scenario: str
) -> None:
    assert results[scenario]["status"] == 500
    assert "Exception caught in handler" in results[scenario]["reply"]
