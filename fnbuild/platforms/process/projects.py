"""Projects on this machine: names that functions are grouped by."""

from __future__ import annotations

from dataclasses import asdict

from fnbuild.platforms import Project, projects
from fnbuild.store import ProjectRow, Store


def every(store: Store, namespace: str) -> list[Project]:
    """All of the namespace, by name; `default` is there without being recorded."""
    found = {row.name: Project(**asdict(row)) for row in store.projects(namespace)}
    found.setdefault(projects.DEFAULT, Project(projects.DEFAULT, namespace))
    return [found[name] for name in sorted(found)]


def create(store: Store, project: Project) -> bool:
    """Record it; False when there is one of that name, as there always is for `default`."""
    if project.name == projects.DEFAULT:
        return False
    return store.add_project(_row(project))


def update(store: Store, project: Project) -> bool:
    """Record it anew; False when there is none of that name. `default` is always there."""
    row = _row(project)
    if project.name == projects.DEFAULT:
        store.add_project(row)
    return store.update_project(row)


def _row(project: Project) -> ProjectRow:
    return ProjectRow(**asdict(project))


def deletable(store: Store, namespace: str, name: str, *, cascade: bool) -> list[str]:
    """The functions that go with the project; `PreconditionError` when it has to stay."""
    members = [row.name for row in store.functions(namespace) if row.project == name]
    return projects.deletable(name, members, cascade=cascade)
