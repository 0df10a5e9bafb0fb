"""Repairs by span edits: changed, unchanged and skipped text."""

import json
import os
import stat
import textwrap
from pathlib import Path

import pytest

from fnbuild.function import labels
from fnbuild.function.labels import SkeletonSvg
from fnbuild.function.reader import check_function
from fnbuild.function.repair import repair_file, repair_text
from tests.function.function_folder import GOOD, Folder

REST = GOOD.partition("  name: fn\n")[2]
HTTP = "  triggers:\n    web:\n      kind: http\n"


def test_the_alphapose_tab(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "function.yaml"
    config.write_bytes((data / "alphapose-tab.yaml").read_bytes())
    done = repair_file(config)
    assert [change.line for change in done] == [26, 59]
    good = (data / "alphapose.yaml").read_text()
    assert config.read_text() == good.replace("maxWorkers", "numWorkers")
    assert not check_function(config)[1].errors
    assert repair_file(config) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  eventTimout: 3s # short", "  eventTimeout: 3s # short"),
        (f"{HTTP}      maxWorkers: 2 # two", f"{HTTP}      numWorkers: 2 # two"),
        (f'{HTTP}      numWorkers: "2"', f"{HTTP}      numWorkers: 2"),
        ("  disable: 'False'", "  disable: False"),
        ("  build:\n\tcommands:\n\t- a\n", "  build:\n    commands:\n    - a\n"),
        ("\thandler2: x", "  handler2: x"),
        ("  timeoutSeconds: 3", None),
        ("  odd: 3", None),
        ("  replicas: two", None),
        (f"{HTTP}      maxWorkers: 2\n      numWorkers: 3", None),
        ("  evenTimeout: 3s\n  eventTimeout: 4s", None),
    ],
)
def test_edits(before: str, after: str | None) -> None:
    text, done = repair_text(f"{GOOD}{before}\n", "f.yaml")
    if after is None:
        assert done == []
        assert text == f"{GOOD}{before}\n"
    else:
        assert text == f"{GOOD}{after}\n"
        assert done


@pytest.mark.parametrize(
    ("annotation", "after"),
    [
        ('startswith_box: "false"\n', ""),
        ("startswith_box: false # no box\n", 'startswith_box: "" # no box\n'),
        ("startswith_box_optional: no\n", ""),
        ("startswith_box: true\n", "startswith_box: true\n"),
        ('spec: |\n      [{"name": "a"},\n      ]\n', 'spec: |\n      [{"name": "a"}\n      ]\n'),
        ('spec: \'[{"name": "a",}, ]\'\n', 'spec: \'[{"name": "a"} ]\'\n'),
        ('spec: \'[{"name": "a"\'\n', 'spec: \'[{"name": "a"\'\n'),
    ],
)
def test_annotations(annotation: str, after: str) -> None:
    start = "metadata:\n  name: fn\n  annotations:\n    type: interactor\n"
    text, _ = repair_text(f"{start}    {annotation}{REST}", "f.yaml")
    lead = "    " if after else ""
    assert text == f"{start}{lead}{after}{REST}"


_BODY = """\
[
  {
    "name": "body",
    "type": "skeleton",
    "edges": [["head", "foot"]],
    "sublabels": [{"name": "head"}, {"name": "foot"}]
  },
  {"name": "eye", "type": "skeleton", "sublabels": [{"name": "it's"}], "id": 3}
]"""


def written(form: str) -> str:
    """The label spec in one of YAML's forms."""
    if form == "double-quoted on one line":
        return "spec: " + json.dumps(json.dumps(json.loads(_BODY)))
    if form == "double-quoted with line breaks":
        return "spec: " + json.dumps(_BODY)
    mark = {"literal": "|", "single-quoted": "'", "double-quoted": '"', "folded": ">-"}[form]
    text = _BODY.replace("'", "''") if mark == "'" else _BODY
    text = text.replace('"', '\\"') if mark == '"' else text
    return f"spec: {mark}\n" + textwrap.indent(text + (mark if mark in "'\"" else ""), "      ")


@pytest.mark.parametrize(
    "form",
    [
        "literal", "single-quoted", "double-quoted", "double-quoted on one line",
        "double-quoted with line breaks", "folded",
    ],
)  # fmt: skip
def test_skeletons_get_an_svg_from_their_sublabels_and_edges(folder: Folder, form: str) -> None:
    start = "metadata:\n  name: fn\n  annotations:\n    type: detector\n"
    folder.config.write_text(f"{start}    {written(form)}\n{REST}")
    assert {error.rule for error in check_function(folder.path)[1].errors} == {"cvat-skeleton"}
    assert len(repair_file(folder.path)) == 2
    loaded, report = check_function(folder.path)
    assert not [finding for finding in report if finding.rule == "cvat-skeleton"]
    assert loaded is not None
    body, eye = labels.function_labels(loaded.function)
    assert body.edges() == [("head", "foot")]
    assert list(SkeletonSvg(body.svg).nodes.items()) == [("1", "head"), ("2", "foot")]
    assert SkeletonSvg(eye.svg).nodes == {"1": "it's"}
    # As CVAT's label constructor writes it.
    assert body.svg.startswith(
        '<line x1="50" y1="10" x2="50" y2="90" stroke="black" data-type="edge" '
        'data-node-from="1" stroke-width="0.5" data-node-to="2"></line><circle r="1.5" '
    )
    assert 'data-type="element node" data-element-id="2" data-node-id="2"' in body.svg
    assert repair_file(folder.path) == []


def test_the_hint_has_the_reason_for_a_missing_svg(folder: Folder) -> None:
    start = "metadata:\n  name: fn\n  annotations:\n    type: detector\n"
    names = '[{"name": "head"}, {"name": "head"}]'
    spec = f'[{{"name": "body", "type": "skeleton", "sublabels": {names}}}]'
    folder.config.write_text(f"{start}    spec: '{spec}'\n{REST}")
    assert repair_file(folder.path) == []
    hints = [
        finding.hint or "" for finding in check_function(folder.path)[1] if "svg" in finding.message
    ]
    assert [hint.partition(";")[0] for hint in hints] == ["give each sublabel a name of its own"]


def test_long_quoted_specs_get_an_svg(folder: Folder) -> None:
    names = [{"name": f"point {number}"} for number in range(900)]
    spec = json.dumps([{"name": "body", "type": "skeleton", "sublabels": names, "id": 1}])
    assert len(spec) > 20_000
    start = "metadata:\n  name: fn\n  annotations:\n    type: detector\n"
    folder.config.write_text(f"{start}    spec: {json.dumps(spec)}\n{REST}")
    assert len(repair_file(folder.path)) == 1
    assert "cvat-skeleton" not in {finding.rule for finding in check_function(folder.path)[1]}


def test_meta_becomes_metadata() -> None:
    text, _ = repair_text(GOOD.replace("metadata", "meta"), "f.yaml")
    assert text == GOOD


def test_a_file_indented_with_tabs_stays_consistent() -> None:
    text = "metadata:\n\tname: fn\nspec:\n\tbuild:\n\t\tcommands: [a]\n\thandler: main:handler\n"
    mended, done = repair_text(text, "f.yaml")
    assert mended == text.replace("\t", "  ")
    assert [change.line for change in done] == [2, 4, 5, 6]


def test_conflicts_are_not_repaired(folder: Folder) -> None:
    text = f"<<<<<<< a\n{GOOD}=======\n\tx\n>>>>>>> b\n"
    folder.config.write_text(text)
    assert repair_file(folder.path) == []
    assert folder.config.read_text() == text


def test_mode_byte_order_mark_and_line_ends_are_kept(folder: Folder) -> None:
    text = "\ufeff" + GOOD.replace("handler:", "handlr:").replace("\n", "\r\n")
    folder.config.write_bytes(text.encode())
    os.chmod(folder.config, 0o640)
    (change,) = repair_file(folder.path)
    assert change.line == 5
    assert folder.config.read_bytes() == text.replace("handlr", "handler").encode()
    assert stat.S_IMODE(folder.config.stat().st_mode) == 0o640
    assert sorted(entry.name for entry in folder.path.iterdir()) == ["function.yaml", "main.py"]


def test_a_link_stays_a_link(folder: Folder, tmp_path: Path) -> None:
    target = tmp_path / "shared.yaml"
    target.write_text(GOOD.replace("handler:", "handlr:"))
    folder.config.symlink_to(target)
    assert len(repair_file(folder.path)) == 1
    assert folder.config.is_symlink()
    assert target.read_text() == GOOD


def test_other_paths_are_not_repaired(tmp_path: Path) -> None:
    code = tmp_path / "main.py"
    code.write_text("\tx = 1\n")
    assert repair_file(code) == []
    assert repair_file(tmp_path) == []
    assert repair_file(tmp_path / "missing") == []
    assert code.read_text() == "\tx = 1\n"
