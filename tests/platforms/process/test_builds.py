"""The build steps of a deploy: shared environments, records, messages and cleanup."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fnbuild.builder import environment
from fnbuild.deploy import pipeline
from fnbuild.errors import BuildError, NotReadyError
from fnbuild.platforms.process import ProcessPlatform
from tests.platforms.process.author import NAMESPACE, Author, invoke

pytestmark = pytest.mark.system

MISSING = "--no-index\nno-such-package-anywhere==1\n"


def test_a_failed_first_build_leaves_a_function_in_error(
    platform: ProcessPlatform, author: Author
) -> None:
    folder = author.write("hello")
    (folder / "requirements.txt").write_text(MISSING)
    with pytest.raises(BuildError):
        author.deploy(folder)
    current = platform.deployment(NAMESPACE, "greeter")
    assert (current.state, current.revision) == ("error", 0)
    assert "no-such-package-anywhere" in current.message.splitlines()[0]
    [recorded] = platform.revisions(NAMESPACE, "greeter")
    assert (recorded.state, recorded.message) == ("failed", current.message)
    assert [record.message for record in platform.logs(NAMESPACE, "greeter")] == [current.message]
    (folder / "requirements.txt").unlink()
    deployment = author.deploy(folder)
    assert (deployment.revision, invoke(deployment.http_port)) == (2, "hello")


def test_redeploy_repeats_a_failed_build(
    platform: ProcessPlatform, author: Author, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = author.write("hello")
    (folder / "requirements.txt").write_text("tiny\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(BuildError):
        author.deploy(folder)
    source_package(tmp_path, "tiny")
    deployment = platform.redeploy(NAMESPACE, "greeter", author.progress.append)
    assert (deployment.state, invoke(deployment.http_port)) == ("ready", "hello")


def source_package(folder: Path, name: str) -> None:
    """Write a minimal wheel."""
    import zipfile

    metadata_folder = f"{name}-1.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as archive:
        archive.writestr(
            f"{metadata_folder}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n"
        )
        archive.writestr(
            f"{metadata_folder}/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{metadata_folder}/RECORD", "")


def test_diff_shows_only_changes(author: Author, tmp_path: Path) -> None:
    source_package(tmp_path, "tiny")
    folder = author.write("one")
    (folder / "requirements.txt").write_text(f"--no-index\n--find-links {tmp_path}\ntiny\n")
    author.deploy(folder)
    (folder / "main.py").write_text((folder / "main.py").read_text().replace("one", "two"))
    (folder / "notes.txt").write_text("new\n")
    assert pipeline.diff(pipeline.DeployRequest(path=folder)).text == (
        "--- main.py (running)\n+++ main.py (planned)\n@@ -1,2 +1,2 @@\n"
        ' def handler(context, event):\n-    return "one"\n+    return "two"\n'
        "--- notes.txt (running)\n+++ notes.txt (planned)\n@@ -0,0 +1 @@\n+new\n"
    )
    (folder / "requirements.txt").unlink()
    assert "-- tiny\n" in pipeline.diff(pipeline.DeployRequest(path=folder)).text


APT = "build:\n  commands:\n    - apt-get install -y libgl1"


def test_skipped_build_steps_are_reported_before_the_start_and_with_a_failure(
    author: Author,
) -> None:
    deployment = author.deploy(author.write(spec=APT))
    [warning] = [text for text in author.progress if text.startswith("warning: ")]
    assert "apt-get install -y libgl1" in warning
    assert author.progress.index(warning) < author.progress.index("starting 1 worker")
    assert deployment.warnings == ()
    with pytest.raises(NotReadyError) as failure:
        author.deploy(author.write_code("import ctypes\nctypes.CDLL('libno.so')\n", spec=APT))
    assert "left out here, which may be why: apt-get install" in (failure.value.hint or "")
    with pytest.raises(NotReadyError) as failure:
        author.deploy(author.write_code("raise ValueError('no weights')\n", spec=APT))
    assert failure.value.hint == "revision 1 goes on serving"
    with pytest.raises(NotReadyError) as failure:
        author.deploy(author.write_code("import nowhere_to_be_found\n"))
    assert "left out" not in (failure.value.hint or "")


def test_a_missing_module_of_the_base_image_has_hints(author: Author) -> None:
    folder = author.write_code(
        "import detectron2\n", spec="build:\n  baseImage: pytorch/pytorch:2.1.0"
    )
    with pytest.raises(NotReadyError) as failure:
        author.deploy(folder)
    warnings = [text for text in author.progress if text.startswith("warning: the base image")]
    assert len(warnings) == 1
    assert "pytorch/pytorch:2.1.0 is left out here" in warnings[0]
    for remedy in ("requirements.txt", "NUCLIO_PYTHON_EXE_PATH", "`--platform local`"):
        assert remedy in (failure.value.hint or "")


def test_a_function_stays_in_its_project_by_default(
    platform: ProcessPlatform, author: Author
) -> None:
    folder = author.write("one")

    def move(project: str | None) -> str:
        author.progress.clear()
        request = pipeline.DeployRequest(path=folder, project=project)
        return pipeline.deploy(request, author.progress.append).function.metadata.labels[
            "nuclio.io/project-name"
        ]

    assert move("cameras") == "cameras"
    author.write("two")
    assert move(None) == "cameras"
    assert not [text for text in author.progress if "project" in text]
    assert pipeline.plan(pipeline.DeployRequest(path=folder)).effective_changes == ()
    assert move("other") == "other"
    assert "moving greeter from project cameras to project other" in author.progress
    assert [deployment.name for deployment in platform.deployments(NAMESPACE, "other")] == [
        "greeter"
    ]


def test_unchanged_large_files_are_shared_between_revisions(
    platform: ProcessPlatform, author: Author
) -> None:
    folder = author.write("one")
    (folder / "weights.bin").write_bytes(os.urandom(2 << 20))
    author.deploy(folder)
    first = platform.code_folder(NAMESPACE, "greeter")
    author.deploy(author.write("two"))
    second = platform.code_folder(NAMESPACE, "greeter")
    assert first is not None
    assert second is not None
    assert (first / "weights.bin").samefile(second / "weights.bin")
    assert not (first / "function.yaml").samefile(second / "function.yaml")
    assert "one" in (first / "main.py").read_text()

    (folder / "weights.bin").write_bytes(os.urandom(2 << 20))
    author.deploy(folder)
    third = platform.code_folder(NAMESPACE, "greeter")
    assert third is not None
    assert not (third / "weights.bin").samefile(second / "weights.bin")


def test_an_update_reports_the_staged_code(platform: ProcessPlatform, author: Author) -> None:
    author.deploy(author.write("one"))
    author.progress.clear()
    changes = pipeline.DeployRequest(name="greeter").overrides
    pipeline.update(
        platform, pipeline.DeployRequest(name="greeter", overrides=changes), author.progress.append
    )
    assert author.progress[0] == "staging the recorded code"
    assert not [text for text in author.progress if "revisions" in text]


def environments(data: Path) -> list[Path]:
    return sorted(path for path in (data / "environments").iterdir() if path.is_dir())


def test_deleting_the_last_function_removes_its_environment(
    data: Path, platform: ProcessPlatform, author: Author, tmp_path: Path
) -> None:
    source_package(tmp_path, "tiny")
    for name in ("greeter", "another"):
        folder = author.write(name=name)
        (folder / "requirements.txt").write_text(f"--no-index\n--find-links {tmp_path}\ntiny\n")
        author.deploy(folder)
    [environment_folder] = environments(data)
    platform.delete(NAMESPACE, "greeter")
    assert environments(data) == [environment_folder]
    with environment.keep_environments():
        platform.delete(NAMESPACE, "another")
        assert environments(data) == [environment_folder]
    author.deploy(author.write())
    platform.delete(NAMESPACE, "greeter")
    assert environments(data) == []
    assert not environment_folder.with_suffix(".lock").exists()


def test_pruned_revisions_remove_their_environments(
    data: Path, author: Author, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fnbuild.platforms.process.revisions.KEPT_REVISIONS", 1)
    source_package(tmp_path, "tiny")
    folder = author.write("one")
    (folder / "requirements.txt").write_text(f"--no-index\n--find-links {tmp_path}\ntiny\n")
    author.deploy(folder)
    assert len(environments(data)) == 1
    (folder / "requirements.txt").unlink()
    author.deploy(folder)
    assert environments(data) == []


def test_a_bundled_package_is_not_a_difference(author: Author, tmp_path: Path) -> None:
    folder = author.write("one")
    source_package(folder, "tiny")
    source_package(tmp_path, "other")
    lines = f"--no-index\n--find-links {tmp_path}\nother\n./tiny-1-py3-none-any.whl\n"
    (folder / "requirements.txt").write_text(lines)
    deployment = author.deploy(folder)
    assert pipeline.diff(pipeline.DeployRequest(path=folder)).text == ""
    # A deploy without a change creates no revision.
    assert author.deploy(folder).revision == deployment.revision
