"""Names of images: those of Nuclio's builder, and the differences."""

import pytest

from fnbuild.builder.image.references import (
    PREFIX_VARIABLE,
    image_name,
    parse_reference,
    with_registry,
)
from fnbuild.errors import InputError
from fnbuild.function.types import Build, Function, Metadata, Spec


@pytest.fixture(autouse=True)
def no_prefix(monkeypatch):
    monkeypatch.delenv(PREFIX_VARIABLE, raising=False)


def function(name="face", image="", registry="", project=""):
    labels = {"nuclio.io/project-name": project} if project else {}
    build = Build(image=image, registry=registry)
    return Function(metadata=Metadata(name=name, labels=labels), spec=Spec(build=build))


def reference(prefix="", **about):
    with pytest.MonkeyPatch.context() as patch:
        if prefix:
            patch.setenv(PREFIX_VARIABLE, prefix)
        return image_name(function(**about))


class TestImageName:
    def test_is_that_of_the_function(self):
        assert reference() == "nuclio/processor-face:latest"

    @pytest.mark.parametrize(
        ("registry", "name"),
        [
            ("localhost:5000", "nuclio/processor-face:latest"),
            ("localhost:5000/", "nuclio/processor-face:latest"),
            ("https://registry.example.org", "nuclio/processor-face:latest"),
            ("docker.io/foo", "processor-face:latest"),
            ("index.docker.io/foo/", "processor-face:latest"),
        ],
    )
    def test_a_registry_with_a_path_is_the_folder(self, registry, name):
        assert reference(registry=registry) == name

    @pytest.mark.parametrize(
        ("image", "name"),
        [
            ("a/b", "a/b:latest"),
            ("a/b:t", "a/b:t"),
            ("b", "b:latest"),
            ("host:5000/a:t", "host:5000/a:t"),
            ("host:5000/a", "host:5000/a:latest"),
            ("cvat.pth.foolwood_siam__mask:latest-gpu", "cvat.pth.foolwood_siam__mask:latest-gpu"),
            ("Host.Example.org/a:T", "Host.Example.org/a:T"),
        ],
    )
    def test_is_the_requested_name(self, image, name):
        assert reference(image=image) == name
        assert reference(image=image, registry="docker.io/foo") == name

    @pytest.mark.parametrize(
        ("about", "name"),
        [
            ({}, "nuclio/shop-face-processor:latest"),
            ({"registry": "docker.io/foo"}, "shop-face-processor:latest"),
            ({"image": "a/b:t"}, "shop-face-a/b:t"),
        ],
    )
    def test_has_a_prefix(self, about, name):
        template = "{{ .ProjectName }}-{{.FunctionName}}-"
        assert reference(template, project="shop", **about) == name

    def test_has_the_prefix_of_the_environment(self, monkeypatch):
        monkeypatch.setenv(PREFIX_VARIABLE, "{{- .ProjectName -}}/")
        assert reference() == "nuclio/default/processor:latest"
        monkeypatch.setenv(PREFIX_VARIABLE, "")
        assert reference() == "nuclio/processor-face:latest"

    def test_with_an_invalid_prefix(self):
        with pytest.raises(InputError, match=r"\{\{ \.Version \}\}' is not supported"):
            reference("{{ .Version }}-")
        with pytest.raises(InputError, match=f"{PREFIX_VARIABLE}: 'nuclio/A b"):
            reference("A b-")


class TestOfFunctionsThatNoImageCanBeCalledBy:
    @pytest.mark.parametrize(
        ("name", "image"),
        [
            ("pth.facebookresearch.sam.vit_h", "pth.facebookresearch.sam.vit_h"),
            ("sam2.1_hiera_large.pt", "sam2.1_hiera_large.pt"),
            ("a--b", "a--b"),
        ],
    )
    def test_valid_names_are_kept(self, name, image):
        assert reference(name=name) == f"nuclio/processor-{image}:latest"

    @pytest.mark.parametrize(
        ("name", "small"),
        [
            ("YOLO-v8-n-100imgs", "yolo-v8-n-100imgs"),
            ("a..b", "a.b"),
            ("a_-.b", "a.b"),
            ("end-", "end"),
            ("a___b", "a_b"),
        ],
    )
    def test_other_names_are_encoded(self, name, small):
        image = reference(name=name)
        assert image.startswith(f"nuclio/processor-{small}-")
        assert image.endswith(":latest")
        parse_reference(image, "")
        assert image == reference(name=name)

    def test_two_functions_never_share_an_image(self):
        names = ("yolo", "Yolo", "YOLO", "yolo-", "y.olo", "y..olo", "y_.olo")
        assert len({reference(name=name) for name in names}) == len(names)

    def test_names_that_cannot_be_encoded(self):
        with pytest.raises(InputError, match=r"metadata.name: 'größe' cannot be turned into"):
            reference(name="größe")


class TestWithRegistry:
    @pytest.mark.parametrize(
        ("registry", "expected"),
        [
            ("", "a/b:t"),
            ("localhost:5000", "localhost:5000/a/b:t"),
            ("localhost:5000/", "localhost:5000/a/b:t"),
            ("https://registry.example.org/team//", "registry.example.org/team/a/b:t"),
            ("[::1]:5000", "[::1]:5000/a/b:t"),
            ("somebody", "somebody/a/b:t"),
        ],
    )
    def test_is_the_prefix_of_the_name(self, registry, expected):
        assert with_registry(registry, "a/b:t") == expected

    def test_is_not_repeated(self):
        assert with_registry("host:5000", "host:5000/a:t") == "host:5000/a:t"

    @pytest.mark.parametrize("registry", ["two words", "host:port", "host/Team", "host/$(x)", "-"])
    def test_an_invalid_registry_is_refused(self, registry):
        with pytest.raises(InputError, match=r"spec.runRegistry: .* is not the name of a registry"):
            with_registry(registry, "a/b:t", "spec.runRegistry")

    def test_a_name_with_another_registry(self):
        with pytest.raises(InputError, match=r"registry: 'one\.example\.org/two:5000/a:t'"):
            with_registry("one.example.org", "two:5000/a:t")


@pytest.mark.parametrize(
    "image", ["two words", "a:b:c", "a/b:", ":t", "/a", "a//b", "-a", "a@sha256:12", "a" * 256]
)
def test_an_invalid_image_name_is_refused(image):
    with pytest.raises(InputError, match=r"spec\.build\.image: .* is not a valid image name"):
        reference(image=image)


def test_capitals_are_reported_with_a_corrected_name():
    with pytest.raises(InputError) as caught:
        reference(image="cvat/MyModel:V1")
    assert "spec.build.image: 'cvat/MyModel:V1'" in caught.value.message
    assert caught.value.hint == "image names are lower-case: cvat/mymodel:V1"


def test_a_digest_is_not_an_image_name():
    with pytest.raises(InputError, match="has a digest"):
        reference(image=f"a/b@sha256:{'0' * 64}")
