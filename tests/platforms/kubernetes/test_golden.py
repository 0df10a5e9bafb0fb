"""The manifests of every function that is here and of every feature, byte for byte.

`FNBUILD_WRITE_GOLDEN=1 pytest tests/platforms/kubernetes/test_golden.py` writes the files anew;
what changed is to be read in `git diff` then.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fnbuild.function.types import Function, Raw
from fnbuild.function.yaml_writer import as_yaml
from fnbuild.platforms.kubernetes.manifests.rendering import (
    prerequisites,
    render_manifests,
    render_portable,
)
from tests.platforms.kubernetes import samples

pytestmark = pytest.mark.system

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
GOLDEN = HERE / "golden"
WRITE = "FNBUILD_WRITE_GOLDEN"


def _sources() -> dict[str, tuple[Path, str | None]]:
    """The features, the library's functions with their variants, and one as people have them."""
    found: dict[str, tuple[Path, str | None]] = {
        path.stem: (path, None) for path in (HERE / "features").glob("*.yaml")
    }
    for path in (ROOT / "functions").glob("**/function.yaml"):
        for variant in (None, "cpu", "gpu"):
            found[".".join(filter(None, (path.parent.name, variant)))] = (path.parent, variant)
    found["alphapose"] = (ROOT / "tests/data/functions/alphapose.yaml", None)
    return dict(sorted(found.items()))


SOURCES = _sources()


def function(name: str) -> Function:
    return samples.loaded(*SOURCES[name])


def text_of(some: tuple[Raw, ...]) -> str:
    """As `fnbuild deploy --dry-run -o yaml` prints them."""
    return "\n---\n".join(as_yaml(one) for one in some) + "\n"


@pytest.mark.parametrize("name", SOURCES)
def test_the_manifests(name: str) -> None:
    one = function(name)
    text = text_of(render_portable(samples.revision(one), samples.render_context(one)))
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get(WRITE):
        path.write_text(text)
    assert path.is_file(), f"there is no {path.name}; {WRITE}=1 writes it"
    assert path.read_text() == text


@pytest.mark.parametrize("name", SOURCES)
def test_twice_they_are_the_same(name: str) -> None:
    """Whatever revision it is, whoever deploys it and whatever port is live."""
    one = function(name)
    first = render_portable(samples.revision(one), samples.render_context(one))
    later = samples.revision(one, number=8, created="later", source=3, owner="other", stamp="again")
    second = render_portable(later, samples.render_context(one, node_port=30123, replicas=5))
    assert text_of(first) == text_of(second)


@pytest.mark.parametrize("name", SOURCES)
def test_a_new_number_restarts_nothing(name: str) -> None:
    """The pods' template is the same, and nothing that Kubernetes makes pods by differs."""
    one = function(name)
    around = samples.render_context(one)
    manifests = render_manifests(samples.revision(one), around)
    others = render_manifests(
        samples.revision(one, number=9, created="later", note="again"), around
    )
    for before, after in zip(manifests, others, strict=True):
        assert before["spec"] == after["spec"]


@pytest.mark.parametrize("name", SOURCES)
def test_the_deployment_tells_its_revision(name: str) -> None:
    one = samples.revision(function(name), note="back to 5", source=5)
    manifests = render_manifests(one, samples.render_context(one.function))
    deployment = next(manifest for manifest in manifests if manifest["kind"] == "Deployment")
    assert type(one).from_deployment(deployment) == one


def test_no_secret_is_in_them() -> None:
    one = function("secrets")
    made = samples.revision(one)
    around = samples.render_context(one)
    assert "LEAKED" in SOURCES["secrets"][0].read_text()
    for some in (render_manifests(made, around), render_portable(made, around)):
        assert "LEAKED" not in text_of(some)


def test_values_of_variables_that_look_like_secrets_are_for_the_cluster_alone() -> None:
    one = function("secret-variables")
    made, around = samples.revision(one), samples.render_context(one)
    text = text_of(render_portable(made, around))
    assert "LEAKED" not in text
    assert text_of(render_manifests(made, around)).count("LEAKED-own") > 2
    [said] = prerequisites(made)
    assert "LEAKED" not in said
    for key in ("DB_PASSWORD", "proxy.DB_PASSWORD", "API_TOKEN", "BROKER", "FETCH_SECRET"):
        assert f"--from-literal={key}=…" in said
        assert f"key: {key}" in text
    assert "MODEL" not in said
    assert f"kubectl create secret generic nuclio-secret-variables -n {one.metadata.namespace}" in (
        said
    )


def test_no_file_is_left_of_a_function_that_went() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {*SOURCES}
