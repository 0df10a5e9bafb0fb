"""The size of an image by layer, and advice."""

from __future__ import annotations

import pytest

from fnbuild.builder.image import context
from fnbuild.builder.image.engine import CompletedProgram, HistoryEntry
from fnbuild.builder.image.size_report import measure_image
from fnbuild.errors import NotFoundError
from tests.engine import PYTHON_IMAGE, require_engine, require_image

pytestmark = pytest.mark.system


@pytest.fixture
def engine():
    return require_engine()


@pytest.fixture
def base(engine):
    return require_image(engine)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


def _file(folder, name, size):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def test_layers_are_listed_by_size_with_their_origin(engine, resources, base, folder):
    (folder / "artifacts").mkdir()
    for name, size in (("runtime", 500_000), ("config", 110_000), ("code", 300_000)):
        context.write_archive(folder / f"artifacts/{name}.tar", [(f"/opt/{name}", b"x" * size)])
    image = resources.build(
        folder,
        f"FROM {base}\nRUN head -c 900000 /dev/zero > /weights\n"
        "ADD artifacts/runtime.tar /\n"
        'HEALTHCHECK CMD ["/usr/local/bin/processor", "--health"]\nCMD ["processor"]\n'
        "ADD artifacts/config.tar /\nADD artifacts/code.tar /\n"
        'LABEL fnbuild.io/digest="12ab" fnbuild.io/function="greeter"\n',
    )
    report = measure_image(engine, image, base)
    assert [(part.origin, part.description) for part in report.layers][1:] == [
        ("function", "RUN head -c 900000 /dev/zero > /weights"),
        ("fnbuild", "runtime"),
        ("function", "code of the function"),
        ("fnbuild", "configuration"),
    ]
    assert report.layers[0].origin == "base"
    assert report.size == sum(part.size for part in report.layers)
    assert report.advice == ()


CLASSIC = """\
/bin/sh -c #(nop)  CMD ["processor"]
|1 X=1 /bin/sh -c echo $X
/bin/sh -c #(nop)  HEALTHCHECK &{["CMD" "/usr/local/bin/processor" "--health"] "1s" "0s"}
/bin/sh -c #(nop) ADD file:c1 in / \n\
/bin/sh -c #(nop) ADD file:c2 in / \n\
/bin/sh -c #(nop) ADD file:c3 in / \n\
/usr/bin/python3 -m pip install --no-cache-dir -r /opt/nuclio/requirements.txt
/bin/sh -c #(nop) ADD file:c4 in / \n\
/bin/sh -c #(nop) ADD file:c5 in / \n\
/bin/sh -c #(nop) COPY dir:c6 in / \n\
"""
BUILDKIT = """\
CMD ["processor"]
RUN |1 X=1 /bin/sh -c echo $X # buildkit
HEALTHCHECK &{["CMD" "/usr/local/bin/processor" "--health"] "1s" "0s"}
ADD artifacts/code.tar / # buildkit
ADD artifacts/config.tar / # buildkit
ADD artifacts/large.tar / # buildkit
RUN /usr/bin/python3 -m pip install --no-cache-dir -r /opt/nuclio/requirements.txt # buildkit
ADD artifacts/requirements.tar / # buildkit
ADD artifacts/runtime.tar / # buildkit
COPY d/ / # buildkit
"""
# In images of earlier versions the health check follows the code.
EARLIER = CLASSIC
SETTINGS = EARLIER.splitlines(keepends=True)[2]
LABELS = "/bin/sh -c #(nop)  LABEL fnbuild.io/digest=12ab fnbuild.io/function=greeter\n"
CLASSIC = EARLIER.replace(SETTINGS, LABELS).replace(
    "/bin/sh -c #(nop) ADD file:c5", f"{SETTINGS}/bin/sh -c #(nop) ADD file:c5"
)


class Recorded:
    """An engine with one image, whose history was recorded."""

    name = "docker"

    def __init__(self, lines):
        self.lines = lines

    def inspect(self, reference):
        return object()

    def history(self, reference):
        return [
            HistoryEntry(1000 - index, line) for index, line in enumerate(self.lines.splitlines())
        ]

    def run(self, image, command, timeout=30.0):
        return CompletedProgram(127, "", "")


@pytest.mark.parametrize("history", [CLASSIC, EARLIER, BUILDKIT])
def test_the_order_of_layers_tells_their_origin(history):
    recorded = [
        (part.origin, part.description)
        for index, part in enumerate(measure_image(Recorded(history), "x").layers)
        if index < 3 or not part.description.startswith("HEALTHCHECK")
    ]
    assert recorded[1] == ("function", "RUN echo $X")
    assert recorded[3:9] == [
        ("function", "code of the function"),
        ("fnbuild", "configuration"),
        ("function", "large files of the function"),
        ("function", "packages of requirements.txt"),
        ("function", "requirements"),
        ("fnbuild", "runtime"),
    ]
    assert recorded[9][0] == "function"
    assert recorded[9][1].startswith("COPY d")


@pytest.mark.parametrize("settings", [(), (SETTINGS, '/bin/sh -c #(nop)  CMD ["processor"]\n')])
def test_the_order_of_layers_without_optional_ones(settings):
    lines = (CLASSIC if settings else EARLIER).splitlines(keepends=True)
    report = measure_image(
        Recorded("".join([*lines[:5], *settings, lines[-2], "RUN /bin/sh -c ls\n"])), "x"
    ).layers
    assert [part.description for part in [*report[3:5], *report[5 + len(settings) :]]] == [
        "code of the function",
        "configuration",
        "runtime",
        "RUN ls",
    ]


def test_a_devel_base_has_a_runtime_sibling(engine, resources, base):
    devel = resources.image("cuda", tag="12.1.0-cudnn8-devel-ubuntu22.04")
    engine.tag(base, devel)
    (advice,) = measure_image(engine, devel, devel).advice
    assert "contains a compiler tool chain" in advice
    assert devel.replace("-devel-", "-runtime-") in advice


def test_compilers_in_the_base_are_found(engine, resources, base, folder):
    for name in ("gcc", "g++"):
        _file(folder, f"bin/{name}", 10)
        (folder / "bin" / name).chmod(0o755)
    image = resources.build(folder, f"FROM {base}\nCOPY bin /usr/local/bin\n")
    (advice,) = measure_image(engine, image, image).advice
    assert f"the base image {image} contains a compiler tool chain (gcc, g++)" in advice


def test_a_compiler_that_a_line_installs_is_named(engine, resources, base, folder):
    # The line installs nothing: the report looks only at its text.
    line = "RUN head -c 1000000 /dev/zero > /x || apt-get install -y build-essential"
    image = resources.build(folder, f"FROM {base}\n{line}\n")
    (advice,) = measure_image(engine, image, base).advice
    assert advice.startswith("build-essential is installed and stays in the image (1.0 MB: RUN ")


def test_caches_of_package_managers_are_measured(engine, resources, base, folder):
    image = resources.build(
        folder,
        f"FROM {base}\nRUN mkdir -p /root/.cache/pip && head -c 6000000 /dev/zero"
        " > /root/.cache/pip/x && head -c 7000000 /dev/zero > /var/lib/apt/lists/x\n",
    )
    apt, pip = measure_image(engine, image, base).advice
    assert "the package lists of apt (7.0 MB in /var/lib/apt/lists)" in apt
    assert "pip's cache (6.0 MB in ~/.cache/pip)" in pip


def test_an_image_without_python_has_a_report(engine, resources, folder):
    _file(folder, "data", 100_000)
    image = resources.build(folder, "FROM scratch\nCOPY data /data\n")
    report = measure_image(engine, image)
    assert [part.description.partition(" ")[0] for part in report.layers] == ["COPY"]
    assert report.advice == ()


def test_a_missing_image_is_an_error(engine, resources):
    with pytest.raises(NotFoundError, match="has no image"):
        measure_image(engine, resources.name("missing"), PYTHON_IMAGE)
