"""The same input gives layers with the same digests, whenever and wherever they are built."""

import os
import time
from pathlib import Path

import pytest

from fnbuild.builder.image import context
from fnbuild.builder.image.probe import probe_image
from tests.builder.image.builders import FOUNDATION, build, resources

pytestmark = pytest.mark.system

__all__ = ["resources"]

LAYERS = ("runtime", "large", "config", "code")
CONFIG = f"""\
metadata: {{name: face}}
spec:
  handler: main:handler
  runtime: python:3.11
  build:
    baseImage: {FOUNDATION}
    directives:
      preCopy:
        - {{kind: WORKDIR, value: /opt/nuclio/early}}
        - {{kind: RUN, value: date +%N > /opt/nuclio/early/now}}
        - {{kind: COPY, value: handler/main.py /usr/local/bin/main.py}}
"""


def write(folder: Path, main: str) -> Path:
    """Write a function with every kind of file in its folder."""
    (folder / "sub/deep").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "function.yaml").write_text(CONFIG)
    (folder / "main.py").write_text(main)
    (folder / "sub/deep/model.py").write_text("x = 1\n")
    (folder / "sub/weights.pt").write_bytes(b"w" * context.LARGE_FILE_BYTES)
    (folder / "sub/run.sh").write_text("#!/bin/sh\n")
    (folder / "sub/run.sh").chmod(0o755)
    (folder / "link").symlink_to("sub")
    (folder / "ü \n'\"$x").write_text("odd")
    return folder


def digests(resources, reference):
    """Return the digests of fnbuild's own layers."""
    own = resources.engine.inspect(reference).layers[-len(LAYERS) :]
    return dict(zip(LAYERS, own, strict=True))


def check_content(resources, reference):
    places = ("/opt", "/usr/local/bin", "/etc/nuclio")
    command = ("find", *places, "-not", "-path", "/opt/fnbuild/*", "-printf", "%M %U:%G %p %l\\0")
    listed = [line.rstrip() for line in resources.engine.run(reference, command).out.split("\0")]
    assert sorted(listed) == [
        "",
        "-rw-r--r-- 0:0 /etc/nuclio/config/processor/processor.json",
        "-rw-r--r-- 0:0 /opt/nuclio/early/now",
        "-rw-r--r-- 0:0 /opt/nuclio/function.yaml",
        "-rw-r--r-- 0:0 /opt/nuclio/main.py",
        "-rw-r--r-- 0:0 /opt/nuclio/sub/deep/model.py",
        "-rw-r--r-- 0:0 /opt/nuclio/sub/weights.pt",
        "-rw-r--r-- 0:0 /opt/nuclio/ü \n'\"$x",
        "-rw-r--r-- 0:0 /usr/local/bin/main.py",
        "-rwxr-xr-x 0:0 /opt/nuclio/sub/run.sh",
        "-rwxr-xr-x 0:0 /usr/local/bin/processor",
        "drwxr-xr-x 0:0 /etc/nuclio",
        "drwxr-xr-x 0:0 /etc/nuclio/config",
        "drwxr-xr-x 0:0 /etc/nuclio/config/processor",
        "drwxr-xr-x 0:0 /opt",
        "drwxr-xr-x 0:0 /opt/fnbuild",
        "drwxr-xr-x 0:0 /opt/nuclio",
        "drwxr-xr-x 0:0 /opt/nuclio/early",
        "drwxr-xr-x 0:0 /opt/nuclio/empty",
        "drwxr-xr-x 0:0 /opt/nuclio/sub",
        "drwxr-xr-x 0:0 /opt/nuclio/sub/deep",
        "drwxr-xr-x 0:0 /usr/local/bin",
        "lrwxrwxrwx 0:0 /opt/nuclio/link sub",
    ]


def test_a_later_build_elsewhere_has_the_same_digests(resources, tmp_path):
    first = write(tmp_path / "one", "x = 1\n")
    expected = digests(resources, build(resources, first, no_cache=True))
    second = write(tmp_path / "sub/another one", "x = 1\n")
    earlier = time.time() - 1e6
    for path in second.rglob("*"):
        os.utime(path, (earlier, earlier), follow_symlinks=False)
    reference = build(resources, second, no_cache=True)
    assert digests(resources, reference) == expected
    check_content(resources, reference)


def test_editing_the_handler_changes_one_layer(resources, tmp_path):
    before = digests(resources, build(resources, write(tmp_path / "one", "x = 1\n")))
    two = digests(resources, build(resources, write(tmp_path / "two", "x = 2\n")))
    assert {name for name in LAYERS if before[name] != two[name]} == {"code"}


def test_folders_keep_their_owners_and_links_their_targets(resources, tmp_path):
    lines = (
        f"FROM {FOUNDATION}\nRUN useradd -u 1234 worker && mkdir -p /data/nuclio /opt"
        " && ln -s /data/nuclio /opt/nuclio && chown worker /data/nuclio /usr/local/bin"
        " && chmod 2775 /usr/local/bin && chmod 700 /data/nuclio\nUSER worker\n"
    )
    base = resources.build(tmp_path / "base", lines, "base")
    folder = write(tmp_path / "one", "x = 1\n")
    (folder / "function.yaml").write_text(
        CONFIG.split("    directives", maxsplit=1)[0].replace(FOUNDATION, base)
    )
    probed = probe_image(resources.engine, base, None)
    reference = build(resources, folder, probed=probed)
    places = ("/opt/nuclio", "/data/nuclio/main.py", "/usr/local/bin", "/data/nuclio", "/opt")
    command = ("stat", "-c", "%A %u %n", *places)
    assert resources.engine.run(reference, command).out.splitlines() == [
        "lrwxrwxrwx 0 /opt/nuclio",
        "-rw-r--r-- 0 /data/nuclio/main.py",
        "drwxrwsr-x 1234 /usr/local/bin",
        "drwx------ 1234 /data/nuclio",
        "drwxr-xr-x 0 /opt",
    ]
    assert digests(resources, reference) == digests(
        resources, build(resources, folder, probed=probed, no_cache=True)
    )
