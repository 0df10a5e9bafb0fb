"""`fnbuild spec`: labels converted on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Fnbuild = Callable[..., Any]


def test_a_label_set_is_written_to_a_file_once(tmp_path: Path, fnbuild: Fnbuild) -> None:
    target = tmp_path / "data.yaml"
    outcome = fnbuild("spec", "convert", "voc-20", "--to", "yolo", "-o", target)
    assert (outcome.status, outcome.out, outcome.err) == (0, "", f"wrote {target}\n")
    assert target.read_text().startswith("names:\n  0: aeroplane\n")
    refused = fnbuild("spec", "convert", "voc-20", "-o", target)
    assert refused.status == 1
    assert "`--force` replaces it" in refused.err
    assert fnbuild("spec", "convert", "voc-20", "-o", target, "--force").status == 0
    assert len(json.loads(target.read_text())) == 20


def test_a_detail_without_a_place_in_the_format_is_a_warning(fnbuild: Fnbuild) -> None:
    outcome = fnbuild("spec", "convert", "coco-17-keypoints", "--to", "names")
    assert (outcome.status, outcome.out) == (0, "person\n")
    assert "left out for: person" in outcome.err
    converted = fnbuild("spec", "convert", "coco-17-keypoints", "--type", "rectangle")
    assert json.loads(converted.out) == [{"name": "person", "type": "rectangle"}]


def test_the_label_sets_are_listed(fnbuild: Fnbuild) -> None:
    assert "imagenet-1k       | 1000   | tag" in fnbuild("spec", "list").out
    wide = fnbuild("spec", "list", "-o", "wide").out
    assert "voc-20            | 20     | rectangle | aeroplane, bicycle, bird\n" in wide
    listed = json.loads(fnbuild("spec", "list", "-o", "json").out)
    assert {"name": "coco-80", "labels": 80, "types": "rectangle"} in listed


def test_bad_input_is_one_error_with_a_line(tmp_path: Path, fnbuild: Fnbuild) -> None:
    file = tmp_path / "labels.json"
    file.write_text('[\n{"name": "x"},\n{"name": "x"}]')
    outcome = fnbuild("spec", "convert", file)
    assert outcome.status == 1
    assert f"error: {file}:3: the name 'x' is used twice" in outcome.err
    assert outcome.err.count("\n") == 2
