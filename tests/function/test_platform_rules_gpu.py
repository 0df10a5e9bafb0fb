"""Findings about functions that request a GPU."""

import pytest

from fnbuild.function.platform_rules import gpu_count
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, Resources, Spec
from tests.function.function_folder import GOOD, Folder, at

GPU = (
    GOOD + "  resources: {limits: {nvidia.com/gpu: %d}}\n  triggers:\n    web:\n      kind: http\n"
)


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1), ("2", 2), ("0", 0), ("", 0), ("x", 0), ("-1", 0), ("1e0", 1)]
)
def test_gpu_count(text: str, number: int) -> None:
    limits = {"nvidia.com/gpu": text}
    assert gpu_count(Function(spec=Spec(resources=Resources(limits=limits)))) == number
    assert gpu_count(Function()) == 0


def test_a_gpu_function_has_one_worker_by_default(folder: Folder) -> None:
    loaded = folder.good(GPU % 1)
    assert loaded.function.spec.triggers["web"].num_workers == 1
    assert loaded.report.diagnostics == []


@pytest.mark.parametrize("key", ["numWorkers", "maxWorkers"])
def test_several_workers_are_several_models(folder: Folder, key: str) -> None:
    finding = folder.only(GPU % 1 + f"      {key}: 3\n")
    assert (finding.severity, finding.rule, at(finding)) == ("warning", "gpu-workers", (10, 19))
    assert "3 workers share one GPU" in finding.message
    assert "GPU memory" in finding.message
    assert finding.hint


def test_a_worker_for_each_gpu(folder: Folder) -> None:
    assert folder.findings(GPU % 2 + "      numWorkers: 2\n") == []
    assert "3 workers share 2 GPUs" in folder.only(GPU % 2 + "      numWorkers: 3\n").message


def test_workers_that_share_a_gpu_on_purpose(folder: Folder) -> None:
    flags = function_from_dict(
        {"metadata": {"annotations": {"fnbuild.io/workers-per-device": "3"}}}, "flags"
    )
    assert folder.findings(GPU % 1 + "      numWorkers: 3\n", overrides=flags) == []


def test_many_workers_without_a_gpu(folder: Folder) -> None:
    assert folder.findings(GPU % 0 + "      numWorkers: 8\n") == []


def test_flags_request_a_gpu_too(folder: Folder) -> None:
    flags = function_from_dict(
        {"spec": {"triggers": {"web": {"kind": "http", "numWorkers": 2}}}}, "flags"
    )
    finding = folder.only(GPU % 1, overrides=flags)
    assert (finding.rule, finding.span) == ("gpu-workers", None)
