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
    """Return actor, action, target and outcome of each entry, oldest first."""
    with Store.open() as store:
        entries = store.audit()
    return [(row.actor, row.action, row.target, row.outcome) for row in reversed(entries)]


def create_and_delete(platform: Platform, namespace: str) -> None:
    """Create and delete a project twice, as two users."""
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
    created, removed = rows()
    assert created == ("ada", "create project", target, "done")
    assert removed[1:] == ("delete project", target, "done")
    assert removed[0] not in ("", "ada")


def test_changes_of_processes_are_recorded(data: Path) -> None:
    create_and_delete(lookup("process"), "nuclio")


def test_changes_of_containers_are_recorded(data: Path) -> None:
    require_engine()
    create_and_delete(lookup("local"), "nuclio")


def test_changes_in_a_cluster_are_recorded(data: Path, cluster_namespace: str) -> None:
    create_and_delete(lookup("kube"), cluster_namespace)


def test_a_failed_change_is_recorded_with_its_reason(data: Path) -> None:
    platform = lookup("process")
    with pytest.raises(NotFoundError):
        platform.rollback("nuclio", "missing", None, print)
    with pytest.raises(PreconditionError):
        platform.delete_project("nuclio", "default", cascade=False)
    rolled_back, removed = rows()
    assert rolled_back[1:3] == ("rollback", "process nuclio/missing")
    assert rolled_back[3].startswith("failed: ")
    assert "missing" in rolled_back[3]
    assert removed[3].startswith("failed: ")
    assert "\n" not in rolled_back[3] + removed[3]


def test_requests_without_changes_are_not_recorded(data: Path) -> None:
    platform = lookup("process")
    assert not platform.delete("nuclio", "missing")
    assert platform.deployments("nuclio") == []
    assert rows() == []


def test_a_cascading_deletion_records_each_function(data: Path) -> None:
    platform = lookup("process")
    labels = {"nuclio.io/project-name": "street"}
    platform.create_project(Project("street", "nuclio"))
    platform.store_imported(
        Function(metadata=Metadata(name="face", namespace="nuclio", labels=labels))
    )
    platform.delete_project("nuclio", "street", cascade=True)
    assert [row[1:3] for row in rows()] == [
        ("create project", "process nuclio/street"),
        ("import", "process nuclio/face"),
        ("delete project", "process nuclio/street"),
        ("delete", "process nuclio/face"),
    ]


def test_a_change_succeeds_without_its_record(
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
