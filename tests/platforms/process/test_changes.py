"""The change counter of the process platform."""

from __future__ import annotations

from fnbuild.function.types import Function, Metadata
from fnbuild.platforms.process import ProcessPlatform


def test_what_another_program_changes_is_known_at_once(
    platform: ProcessPlatform, namespace: str
) -> None:
    known = platform.change_counter()
    assert platform.deployments(namespace) == []
    assert platform.change_counter() == known, "looking changes nothing"
    other = ProcessPlatform()
    other.store_imported(Function(metadata=Metadata(name="f", namespace=namespace)))
    added = platform.change_counter()
    assert added != known
    assert other.delete(namespace, "f")
    assert platform.change_counter() != added


def test_one_that_cannot_be_read_hides_no_other(platform: ProcessPlatform, namespace: str) -> None:
    for name in ("good", "odd"):
        platform.store_imported(Function(metadata=Metadata(name=name, namespace=namespace)))
    with platform._watched_store.transaction() as connection:
        odd = '{"metadata": {"name": "odd"}, "spec": {"replicas": "many"}}'
        connection.execute("UPDATE functions SET config = ? WHERE name = 'odd'", (odd,))
    found = {one.name: one for one in platform.deployments(namespace)}
    assert found["good"].state == "imported"
    assert found["odd"].state == "error"
    assert "replicas" in found["odd"].message
