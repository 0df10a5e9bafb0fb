"""The function's folder at /opt/nuclio: visible to the worker and its C libraries only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest

from fnbuild.runtime.worker import process_setup
from tests.runtime import interpreters
from tests.runtime.conftest import ROOT

pytestmark = pytest.mark.system

READER = """
import ctypes
import os
import subprocess
import sys

PLACE = "/opt/nuclio/function.yaml"


def read_in_c(path):
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    libc.fgets.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p]
    file = libc.fopen(path.encode(), b"r")
    line = ctypes.create_string_buffer(200)
    return libc.fgets(line, 200, file) and line.value.decode() if file else None


def handler(context, event):
    return {
        "open": open(PLACE).read(),
        "c": read_in_c(PLACE),
        "program": subprocess.run(["cat", PLACE], stdout=subprocess.PIPE).stdout.decode(),
        "listed": sorted(os.listdir("/opt/nuclio")),
        "cwd": os.getcwd(),
        "file": __file__,
        "path": sys.path[0],
        "opt": sorted(os.listdir("/opt")),
        "uid": os.getuid(),
        "python": subprocess.run([sys.executable, "-c", "print(1)"]).returncode,
    }
"""

YAML = "metadata: {name: under-test}\n"


def can_mount() -> bool:
    command = ["unshare", "--mount", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_namespaces = pytest.mark.skipif(
    not can_mount(), reason="this machine allows no mount namespaces"
)


def mounts() -> list[str]:
    """Return the mounts at or below the handler's folder."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if line.split()[4].startswith("/opt")]


@needs_namespaces
@pytest.mark.parametrize("version", interpreters.every())
def test_all_code_in_the_worker_sees_the_folder(serve: Any, version: str) -> None:
    before, opt = mounts(), sorted(os.listdir("/opt"))
    processor = serve(READER, mount="/opt/nuclio", version=version)
    seen = processor.call()
    assert seen["open"] == seen["c"] == seen["program"] == YAML
    assert seen["listed"] == sorted({"function.yaml", "main.py", *seen["listed"]})
    assert (seen["cwd"], seen["path"]) == ("/opt/nuclio", "/opt/nuclio")
    assert seen["file"] == "/opt/nuclio/main.py"
    assert seen["opt"] == sorted({*opt, "nuclio"})
    assert seen["python"] == 0
    assert processor.status()["mount"] == "namespace"
    assert processor.status()["warnings"] == []
    assert mounts() == before
    assert sorted(os.listdir("/opt")) == opt


@needs_namespaces
def test_an_existing_mount_point(serve: Any, tmp_path: Path) -> None:
    place = tmp_path / "opt" / "nuclio"
    place.mkdir(parents=True)
    (place / "other").touch()
    processor = serve(READER.replace("/opt/nuclio", str(place)), mount=str(place))
    seen = processor.call()
    assert seen["open"] == seen["c"] == YAML
    assert "other" not in seen["listed"]
    assert os.listdir(place) == ["other"]


WRITER = """
import os


def handler(context, event):
    with open("/opt/nuclio/weights.bin", "r+b") as file:
        file.write(b"X")
    with open("/opt/nuclio/downloaded", "a") as file:
        file.write("x")
    os.remove("/opt/nuclio/unwanted")
    return [open("/opt/nuclio/weights.bin").read(), sorted(os.listdir("/opt/nuclio"))]
"""


@needs_namespaces
@pytest.mark.skipif(os.getuid() != 0, reason="the files can be written by root alone")
def test_an_immutable_folder_is_unchanged(serve: Any) -> None:
    files = {"weights.bin": "weights", "unwanted": ""}
    processor = serve(WRITER, files=files, mount="/opt/nuclio", immutable=True)
    text, listed = processor.call()
    assert text == "Xeights"
    assert {"downloaded", "weights.bin"} <= set(listed)
    assert "unwanted" not in listed
    folder = processor.folder / "code"
    assert (folder / "weights.bin").read_text() == "weights"
    assert (folder / "unwanted").exists()
    assert not (folder / "downloaded").exists()
    assert not (folder / "__pycache__").exists()


@needs_namespaces
def test_other_entries_next_to_the_mount_point_are_kept(serve: Any, tmp_path: Path) -> None:
    opt = tmp_path / "opt"
    (opt / "tool" / "bin").mkdir(parents=True)
    (opt / "file").write_text("text")
    (opt / "link").symlink_to("tool/bin")
    (opt / "broken").symlink_to("nowhere")
    # The interpreter itself, and the function's folder, may be there.
    python = opt / "tool" / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", opt / "tool"], check=True, timeout=60
    )
    processor = serve(
        f"""
        import os, sys
        def handler(context, event):
            return {{
                "python": sys.executable,
                "runs": os.path.exists(sys.executable),
                "entries": sorted(os.listdir({str(opt)!r})),
                "file": open({str(opt / "file")!r}).read(),
                "links": [os.readlink({str(opt)!r} + "/" + n) for n in ("link", "broken")],
                "yaml": open({str(opt / "nuclio" / "function.yaml")!r}).read(),
            }}
        """,
        mount=str(opt / "nuclio"),
        interpreter=str(python),
    )
    assert processor.call() == {
        "python": str(python),
        "runs": True,
        "entries": ["broken", "file", "link", "nuclio", "tool"],
        "file": "text",
        "links": ["tool/bin", "nowhere"],
        "yaml": YAML,
    }
    assert not (opt / "nuclio").exists()


@needs_namespaces
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_an_unprivileged_user_has_the_mount_too(tmp_path: Path) -> None:
    python = "/usr/bin/python3"
    if not Path(python).exists():
        pytest.skip("no system Python that another user may run")
    # Copied, since the user may not be able to read this checkout.
    home = Path(tempfile.mkdtemp())
    try:
        shutil.copytree(ROOT / "fnbuild" / "runtime", home / "fnbuild" / "runtime")
        (home / "code").mkdir()
        (home / "code" / "function.yaml").write_text(YAML)
        script = """
            import json, os, sys
            from fnbuild.runtime.worker import mount
            refusal = mount.mount_folder(sys.argv[1], "/opt/nuclio", immutable=True)
            try:
                text = open("/opt/nuclio/function.yaml").read()
                open("/opt/nuclio/downloaded", "w").close()
            except OSError as problem:
                text = str(problem)
            print(json.dumps([refusal, os.getuid(), os.getgid(), text]))
        """
        (home / "script.py").write_text(textwrap.dedent(script))
        for path in [home, *home.rglob("*")]:
            os.chown(path, 65534, 65534)
        done = subprocess.run(
            [python, str(home / "script.py"), str(home / "code")],
            user=65534,
            group=65534,
            extra_groups=[],
            env={"PYTHONPATH": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        left = os.listdir(home / "code")
    finally:
        shutil.rmtree(home)
    refusal, uid, gid, text = json.loads(done.stdout)
    assert (uid, gid) == (65534, 65534)
    if refusal is not None:
        pytest.skip(f"this kernel lets plain users mount nothing: {refusal}")
    assert text == YAML
    assert left == ["function.yaml"]


def test_a_refused_mount_changes_nothing(tmp_path: Path) -> None:
    script = """
        import json, sys
        from fnbuild.runtime.worker import mount
        refusal = mount.mount_folder(sys.argv[1], "/nowhere/at/all")
        print(json.dumps([refusal, open("/proc/self/mountinfo").read().count("/nowhere")]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    refusal, count = json.loads(done.stdout)
    assert refusal
    assert count == 0


@pytest.mark.parametrize("version", interpreters.every())
def test_without_a_namespace_python_still_finds_the_folder(serve: Any, version: str) -> None:
    # The mount point cannot be created in any folder, so no mount is possible.
    place = "/nowhere/at/all"
    processor = serve(
        """
        import io, os, pathlib
        def handler(context, event):
            place = "/nowhere/at/all"
            name = place + "/function.yaml"
            return {
                "open": open(name).read(),
                "io": io.open(name, encoding="utf-8").read(),
                "bytes": open(name.encode(), "rb").read().decode(),
                "path": pathlib.Path(name).read_text(),
                "exists": [os.path.exists(name), os.path.isdir(place), os.path.exists(place + "x")],
                "stat": os.stat(name).st_size,
                "fd": os.close(os.open(name, os.O_RDONLY)),
                "listed": "main.py" in os.listdir(place) and "main.py" in
                          [e.name for e in os.scandir(place)],
                "relative": open("function.yaml").read(),
            } if event.path == "/" else open(place + "/missing").read()
        """,
        mount=place,
        version=version,
        workers=2,
        env={"PYTHONPATH": place + "/lib"},
    )
    assert processor.call() == {
        **dict.fromkeys(["open", "io", "bytes", "path", "relative"], YAML),
        "exists": [True, True, False],
        "stat": len(YAML),
        "fd": None,
        "listed": True,
    }
    error = processor.send(path="/missing").body.decode()
    assert "FileNotFoundError" in error
    assert "(main.py:" in error
    status = processor.status()
    assert status["mount"] == "patched-open"
    assert len(status["warnings"]) == 1
    assert "is visible to Python only" in status["warnings"][0]
    assert len(processor.records(level="warn")) == 1


def test_no_mount_is_configured(serve: Any) -> None:
    processor = serve("import os\ndef handler(c, e):\n    return os.getcwd()\n")
    assert processor.send().body.decode() == str(processor.code)
    assert processor.status()["mount"] == "none"


def test_paths_are_redirected_by_whole_names() -> None:
    redirect = process_setup.PathRedirect("/srv/code", "/opt/nuclio")
    assert redirect.map("/opt/nuclio") == "/srv/code"
    assert redirect.map("/opt/nuclio/a/b") == "/srv/code/a/b"
    assert redirect.map(b"/opt/nuclio/a") == b"/srv/code/a"
    assert redirect.map(Path("/opt/nuclio/a")) == "/srv/code/a"
    assert redirect.map("/opt/nuclio2/a") == "/opt/nuclio2/a"
    assert redirect.map(3) == 3
