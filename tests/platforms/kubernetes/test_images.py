"""Images in a registry are kept while a revision needs them, and removed afterwards."""

from __future__ import annotations

import functools
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.builder.image.builder import BuiltImage
from fnbuild.builder.image.registry import PushedBuild, RegistryClient, parse_pushed_build
from fnbuild.deploy import artifacts, prune
from fnbuild.deploy.pipeline import prepare
from fnbuild.deploy.prune import PruneRequest
from fnbuild.errors import NotReadyError
from fnbuild.function.types import Raw
from fnbuild.platforms import Deployment, Leftover
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubernetes import KubernetesPlatform, leases
from tests import engine as engines
from tests.builder.image import bases
from tests.cluster import invoke, kubeconfig_of, require_local_node
from tests.engine import call, free_port, require_engine, until
from tests.platforms.kubernetes.author import Author

pytestmark = pytest.mark.system

BROKEN = """
def init_context(context):
    raise ValueError("the weights are missing")

def handler(context, event):
    return ""
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[engines.Registry]:
    """A registry that supports garbage collection."""
    folder = tmp_path_factory.mktemp("registry")
    with engines.registry(folder, free_port(), own=True) as registry:
        yield registry


@pytest.fixture
def own_registry(registry: engines.Registry, author: Author) -> Iterator[engines.Registry]:
    """The registry; the engine's images of it are removed after the test."""
    require_local_node(author.platform.cluster)
    engine = require_engine()
    yield registry
    images = call(engine, "images", "--quiet", "--filter", f"reference={registry.address}/*")
    call(engine, "rmi", "--force", *dict.fromkeys(images.split()))


@functools.cache
def small_base() -> str:
    """Return an image with Python and nothing else."""
    return bases.image("no-shell")


def with_registry(folder: Path, own_registry: engines.Registry) -> Path:
    file = folder / "function.yaml"
    text = file.read_text()
    # The first push uploads the base image, which the engine compresses.
    build = f"  build:\n    registry: {own_registry.address}\n    baseImage: {small_base()}\n"
    file.write_text(text.replace("  build:\n", build))
    return folder


def deploy(author: Author, own_registry: engines.Registry, word: str) -> Deployment:
    return author.deploy(with_registry(author.write(word), own_registry))


def build_of(deployment: Deployment) -> PushedBuild:
    build = parse_pushed_build(str(deployment.details["pinned"]))
    assert build is not None, deployment.details
    return build


def is_complete(own_registry: engines.Registry, build: PushedBuild) -> bool:
    """Return True if the registry has the manifest and all layers of a build."""
    base = f"http://{own_registry.address}/v2/{build.repository.name}"
    kind = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    try:
        request = urllib.request.Request(f"{base}/manifests/{build.digest}", headers=kind)
        with urllib.request.urlopen(request, timeout=20) as reply:
            manifest = json.load(reply)
        for blob in (manifest["config"], *manifest["layers"]):
            head = urllib.request.Request(f"{base}/blobs/{blob['digest']}", method="HEAD")
            urllib.request.urlopen(head, timeout=20).close()
    except urllib.error.HTTPError as error:
        error.close()
        return False
    return True


def test_the_serving_image_survives_a_failed_deploy_and_garbage_collection(
    author: Author, own_registry: engines.Registry
) -> None:
    first = build_of(deploy(author, own_registry, "one"))
    registry, repository = RegistryClient(own_registry.address), first.repository.name
    assert registry.digest(repository, "latest") == first.digest
    with pytest.raises(NotReadyError, match="did not become ready") as failure:
        author.deploy(with_registry(author.write_code(BROKEN), own_registry))
    assert "the weights are missing" in f"{failure.value.message}{failure.value.detail}"
    assert registry.digest(repository, "latest") == first.digest
    assert len(registry.tags(repository)) == 3
    own_registry.collect_garbage()
    assert is_complete(own_registry, first)
    assert invoke(author.deployment().external_urls[0]) == "one"

    second = build_of(deploy(author, own_registry, "two"))
    assert registry.digest(repository, "latest") == second.digest
    own_registry.collect_garbage()
    rolled_back = author.platform.rollback(author.namespace, "greeter", 1, author.progress.append)
    assert build_of(rolled_back) == first
    assert is_complete(own_registry, first)


def test_builds_are_removed_with_their_revisions(
    author: Author, own_registry: engines.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HISTORY_LIMIT", 2)
    engine, registry = require_engine(), RegistryClient(own_registry.address)
    builds = {"one": build_of(deploy(author, own_registry, "one"))}
    # A tag of the user keeps the first build.
    stable = f"{builds['one'].repository}:stable"
    call(engine, "tag", f"{builds['one'].repository}:latest", stable)
    call(engine, "push", stable)
    call(engine, "rmi", stable)
    # Another function keeps the second build.
    deployment = deploy(author, own_registry, "two")
    builds["two"] = build_of(deployment)
    author.run(str(deployment.details["pinned"]), name="another")
    for word in ("three", "four", "five"):
        builds[word] = build_of(deploy(author, own_registry, word))
    tags = {build.tag for word, build in builds.items() if word != "three"}
    assert set(registry.tags(builds["one"].repository.name)) == {"latest", "stable", *tags}
    assert f"removed {builds['three']}: revision 3 has left history" in author.progress


def test_a_redeploy_of_a_lost_image_has_a_hint(
    author: Author, own_registry: engines.Registry
) -> None:
    build, engine = build_of(deploy(author, own_registry, "one")), require_engine()
    assert RegistryClient(own_registry.address).delete(build.repository.name, build.digest)
    cluster = author.platform.cluster
    cluster.delete(kinds.DEPLOYMENT, author.namespace, "nuclio-greeter")
    until("the end of the pods", lambda: not cluster.list(kinds.POD, author.namespace))
    reference = f"{build.repository}@{build.digest}"
    identity = call(engine, "image", "inspect", "--format", "{{.Id}}", reference).strip()
    call(engine, "rmi", "--force", identity)
    with pytest.raises(NotReadyError, match="no longer has the image") as failure:
        author.platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert "again from its folder" in (failure.value.hint or "")
    assert deploy(author, own_registry, "one").state == "ready"


def test_prune_finds_builds_that_no_revision_needs(
    author: Author, own_registry: engines.Registry
) -> None:
    name = f"faces-{author.namespace[-8:]}"
    builds = [
        build_of(author.deploy(with_registry(author.write(word, name=name), own_registry)))
        for word in ("one", "two", "three")
    ]
    registry, repository = RegistryClient(own_registry.address), builds[0].repository.name
    request = PruneRequest(author.namespace, (name,), registries=(own_registry.address,))

    def stale_tags() -> list[Leftover]:
        leftovers = prune.find_leftovers(author.platform, request).leftovers
        return [leftover for leftover in leftovers if leftover.kind == "registry tag"]

    assert stale_tags() == []
    author.platform.delete(author.namespace, name)
    cluster = author.platform.cluster
    until("the end of the pods", lambda: not cluster.list(kinds.POD, author.namespace))
    stale = stale_tags()
    # The tag `latest` still refers to the third build.
    expected = {f"{build}@{build.digest}" for build in builds[:2]}
    assert {leftover.name for leftover in stale} == expected
    assert {leftover.function for leftover in stale} == {name}
    for leftover in stale:
        assert prune.remove_leftover(author.platform, leftover) == ""
    assert set(registry.tags(repository)) == {"latest", builds[2].tag}
    assert stale_tags() == []


def test_prune_keeps_builds_of_recorded_revisions(
    author: Author, own_registry: engines.Registry
) -> None:
    # A unique name, because builds of functions that are being deployed anywhere are kept.
    name = f"kept-{author.namespace[-8:]}"
    folder = with_registry(author.write("one", name=name), own_registry)
    build = build_of(author.deploy(folder))
    engine = require_engine()
    # An image without a revision that fnbuild did not build.
    foreign = f"{build.repository}:fnbuild-{'0' * 16}"
    call(engine, "tag", small_base(), foreign)
    call(engine, "push", foreign)
    call(engine, "rmi", foreign)

    # A build that was pushed and then replaced by another one before it ran.
    def build_image(word: str) -> BuiltImage:
        request = author.request(with_registry(author.write(word, name=name), own_registry))
        return artifacts.build_image(prepare(request).loaded, engine, author.progress.append)

    lost, last = build_image("two"), build_image("one")
    assert last.immutable_reference.endswith(build.tag)
    leftovers = prune.find_leftovers(
        author.platform, PruneRequest(author.namespace, (name,))
    ).leftovers
    tags = [
        leftover.name
        for leftover in leftovers
        if own_registry.address in leftover.name and leftover.kind != "image"
    ]
    assert tags == [f"{lost.immutable_reference}@{lost.pushed_digest}"]


def test_prune_without_permission_on_all_namespaces_keeps_images(
    author: Author, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    author.run(image)
    rules: list[Raw] = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    cluster = author.platform.cluster
    file = kubeconfig_of(cluster, author.namespace, "one", rules, tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(file))
    request = PruneRequest(author.namespace, include_user_tagged=True)
    result = prune.find_leftovers(KubernetesPlatform(), request)
    assert result.leftovers == []
    [warning] = result.warnings
    assert warning.startswith("images stay, since one may be needed: ")
