"""Changes on every platform are recorded with their actor and outcome."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from fnbuild.errors import NotFoundError, PreconditionError
from fnbuild.function.types import Function, Metadata
from fnbuild.platforms import Platform, Project, lookup
from fnbuild.platforms.audit import acting_as, with_audit_log
from fnbuild.store import Store
from tests.engine import require_engine

pytestmark = pytest.mark.system


def rows() -> list[tuple[str, str, str, str]]:
    """Actor, action, target and outcome, oldest first."""
    with Store.open() as store:
        found = store.audit()
    return [(one.actor, one.action, one.target, one.outcome) for one in reversed(found)]


def come_and_go(platform: Platform, namespace: str) -> None:
    """A project is made and removed, each twice, by two people."""
    name = f"audited-{uuid.uuid4().hex[:8]}"
    project = Project(name, namespace)
    acting = acting_as.set("ada")
    try:
        assert platform.create_project(project)
        assert not platform.create_project(project)
    finally:
        acting_as.reset(acting)
    assert platform.delete_project(namespace, name, cascade=False)
    target = f"{platform.name} {namespace}/{name}"
    made, removed = rows()
    assert made == ("ada", "create project", target, "done")
    assert removed[1:] == ("delete project", target, "done")
    assert removed[0] not in ("", "ada")


def test_processes(data: Path) -> None:
    come_and_go(lookup("process"), "nuclio")


def test_containers(data: Path) -> None:
    require_engine()
    come_and_go(lookup("local"), "nuclio")


def test_a_cluster(data: Path, cluster_namespace: str) -> None:
    come_and_go(lookup("kube"), cluster_namespace)


def test_a_change_that_fails_is_recorded_with_its_reason(data: Path) -> None:
    platform = lookup("process")
    with pytest.raises(NotFoundError):
        platform.rollback("nuclio", "nobody", None, print)
    with pytest.raises(PreconditionError):
        platform.delete_project("nuclio", "default", cascade=False)
    rolled, removed = rows()
    assert rolled[1:3] == ("rollback", "process nuclio/nobody")
    assert rolled[3].startswith("failed: ")
    assert "nobody" in rolled[3]
    assert removed[3].startswith("failed: ")
    assert "\n" not in rolled[3] + removed[3]


def test_what_changes_nothing_is_not_recorded(data: Path) -> None:
    platform = lookup("process")
    assert not platform.delete("nuclio", "nobody")
    assert platform.deployments("nuclio") == []
    assert rows() == []


def test_a_project_that_goes_with_its_functions(data: Path) -> None:
    platform = lookup("process")
    labels = {"nuclio.io/project-name": "street"}
    platform.create_project(Project("street", "nuclio"))
    platform.store_imported(
        Function(metadata=Metadata(name="face", namespace="nuclio", labels=labels))
    )
    platform.delete_project("nuclio", "street", cascade=True)
    assert [one[1:3] for one in rows()] == [
        ("create project", "process nuclio/street"),
        ("import", "process nuclio/face"),
        ("delete project", "process nuclio/street"),
        ("delete", "process nuclio/face"),
    ]


def test_a_change_stands_when_it_cannot_be_recorded(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Elsewhere:
        name = "elsewhere"

        def create_project(self, project: Project) -> bool:
            return True

    monkeypatch.setenv("FNBUILD_DATA_DIR", "/proc/no-folder")
    platform = with_audit_log(Elsewhere())  # type: ignore[arg-type]
    assert platform.create_project(Project("street", "nuclio"))
    assert "not in the audit log" in caplog.text
