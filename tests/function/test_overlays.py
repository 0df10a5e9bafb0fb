"""Variants: their locations, and the functions that result."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.errors import ConfigError
from fnbuild.function import overlays, reader
from fnbuild.function.platform_rules import gpu_count
from tests.function.function_folder import GOOD, Folder, at

OWN = Path(__file__).resolve().parents[2] / "function-specs" / "variants"
ON_GPU = (
    GOOD
    + """\
  resources:
    limits: {nvidia.com/gpu: 1, memory: 4Gi}
    requests: {nvidia.com/gpu: 1}
  triggers:
    myHttpTrigger:
      kind: http
      maxWorkers: 1
      attributes: {maxRequestBodySize: 1048576}
"""
)
ON_CPU = GOOD + "  triggers: {web: {kind: http, maxWorkers: 4}}\n"


def overlay(folder: Path, name: str, text: str) -> Path:
    place = folder / "function-specs" / "variants"
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_text(text)
    return place / name


@pytest.mark.parametrize("path", sorted(OWN.iterdir()), ids=lambda path: path.name)
def test_every_shipped_overlay_has_no_findings(folder: Folder, path: Path) -> None:
    assert path.suffix == ".yaml"
    for text in (GOOD, ON_CPU, ON_GPU):
        assert folder.findings(text, variant=path.stem) == []
    # Where the function has no other variants, each is found by its name.
    assert path.stem in overlays.variant_names(folder.path)


def test_shipped_overlays_are_also_in_the_package() -> None:
    in_package = Path(overlays.__file__).with_name("variants")
    assert sorted(p.name for p in in_package.iterdir()) == sorted(p.name for p in OWN.iterdir())


def test_gpu(folder: Folder) -> None:
    spec = folder.good(ON_CPU, variant="gpu").function.spec
    assert spec.resources.limits == {"nvidia.com/gpu": "1"}
    assert {name: trigger.num_workers for name, trigger in spec.triggers.items()} == {"web": 1}
    assert spec.build.base_image == ""


def test_gpu_without_a_trigger(folder: Folder) -> None:
    loaded = folder.good(GOOD, variant="gpu")
    assert [t.kind for t in loaded.function.spec.triggers.values()] == ["http"]
    assert gpu_count(loaded.function) == 1


def test_cpu_removes_the_gpu(folder: Folder) -> None:
    spec = folder.good(ON_GPU, variant="cpu").function.spec
    assert (spec.resources.limits, spec.resources.requests) == ({"memory": "4Gi"}, {})
    assert spec.triggers["myHttpTrigger"].attributes == {"maxRequestBodySize": 1048576}


def test_the_variant_has_the_name_of_the_function_or_its_own(folder: Folder) -> None:
    assert folder.good(GOOD, variant="gpu").function.metadata.name == "fn"
    overlay(folder.path, "gpu.yaml", "metadata: {name: fn-gpu}")
    assert folder.good(GOOD, variant="gpu").function.metadata.name == "fn-gpu"


def test_flags_override_the_variant_and_the_variant_the_file(folder: Folder) -> None:
    overlay(
        folder.path, "x.yaml", "spec: {description: overlay, eventTimeout: 7s, env: [{name: A}]}"
    )
    flags = reader.function_from_dict({"spec": {"description": "flag"}}, "flags")
    text = GOOD + "  description: file\n  eventTimeout: 9s\n  env: [{name: B, value: b}]\n"
    spec = folder.good(text, variant="x", overrides=flags).function.spec
    assert (spec.description, spec.event_timeout) == ("flag", "7s")
    assert [variable.name for variable in spec.env] == ["A", "B"]


def test_the_nearest_wins_up_to_the_top_of_the_repository(folder: Folder) -> None:
    top = folder.path.parent
    named = "spec: {description: %s}"
    overlay(top.parent, "x.yaml", named % "outside")
    (top / ".git").mkdir()
    assert folder.only(GOOD, variant="x").message == "there is no variant 'x'"
    with pytest.raises(ConfigError, match="no variant 'x'"):
        reader.load_function(folder.path, variant="x")
    overlay(top, "x.yaml", named % "top")
    assert folder.good(GOOD, variant="x").function.spec.description == "top"
    overlay(folder.path, "x.yml", named % "own")
    assert folder.good(GOOD, variant="x").function.spec.description == "own"


def test_outside_a_repository_only_the_folder_is_searched(folder: Folder) -> None:
    overlay(folder.path.parent, "x.yaml", "spec: {}")
    assert folder.check(GOOD, variant="x")[0] is None


def test_a_variant_is_a_file(folder: Folder, tmp_path: Path) -> None:
    path = overlay(tmp_path / "else", "x.yaml", "spec: {description: x}")
    assert folder.good(GOOD, variant=str(path)).function.spec.description == "x"
    (folder.path / "y.yaml").write_text("spec: {description: other}")
    assert folder.good(GOOD, variant="y.yaml").function.spec.description == "other"


@pytest.mark.parametrize("name", ["gpuu", "none", "./none.yaml", "a/b", ""])
def test_unknown_variants(folder: Folder, name: str) -> None:
    overlay(folder.path, "tiny.yaml", "spec: {}")
    finding = folder.only(GOOD, variant=name)
    assert (finding.severity, finding.rule) == ("error", "variant")
    assert "cpu, gpu, tiny" in (finding.hint or "")
    assert ("did you mean gpu?" in (finding.hint or "")) is (name == "gpuu")


def test_errors_have_positions_in_the_overlay(folder: Folder) -> None:
    path = overlay(folder.path, "x.yaml", "spec:\n  replicas: many\n  unknwon: 1\n")
    wrong, unknown = folder.findings(GOOD, variant="x")
    assert (wrong.rule, at(wrong)) == ("wrong-type", (2, 13))
    assert (unknown.severity, unknown.rule, at(unknown)) == ("warning", "unknown-key", (3, 3))
    assert {str(finding.span).split(":")[0] for finding in (wrong, unknown)} == {str(path)}


def test_findings_have_positions_in_the_overlay(folder: Folder) -> None:
    text = "spec:\n  triggers:\n    any:\n      kind: http\n      numWorkers: 200000\n"
    path = overlay(folder.path, "x.yaml", text)
    finding = folder.only(ON_CPU, variant="x")
    assert (finding.rule, at(finding)) == ("workers", (5, 19))
    assert str(finding.span).startswith(str(path))


def test_an_overlay_that_cannot_be_read(folder: Folder) -> None:
    path = overlay(folder.path, "x.yaml", "spec: [\n")
    loaded, report = folder.check(GOOD, variant="x")
    assert loaded is None
    assert str(path) in report.render()


def test_a_source_file_with_a_configuration_inside(folder: Folder) -> None:
    code = folder.path / "one.py"
    code.write_text(
        "# @nuclio.configure\n#\n# function.yaml:\n#   metadata: {name: one}\n"
        "#   spec: {runtime: 'python:3.11', triggers: {web: {kind: http, numWorkers: 3}}}\n#\n"
        "def handler(context, event): return 1\n"
    )
    function = reader.load_function(code, variant="gpu").function
    assert function.spec.triggers["web"].num_workers == 1
    assert list(function.spec.triggers) == ["web"]
