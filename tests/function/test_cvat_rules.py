"""Settings that hide a function in CVAT, or that CVAT misreads."""

import json

import pytest

from fnbuild.errors import Diagnostic
from tests.function.function_folder import Folder, at

LABEL = '[{"name": "car"}]'
SPEC = "spec:\n  description: d\n  runtime: python:3.9\n  handler: main:handler\n"
HTTP = "  triggers: {http: {kind: http, attributes: {maxRequestBodySize: 33554432}}}\n"


def config(annotations: str, spec: str = LABEL) -> str:
    lines = "".join(f"    {line}\n" for line in annotations.split("\n") if line)
    labels = f"    spec: '{spec}'\n" if spec else ""
    return f"metadata:\n  name: fn\n  annotations:\n{lines}{labels}{SPEC}{HTTP}"


def block(labels: str, key: str = "spec: |") -> str:
    """A configuration whose label spec starts on line 6, 6 columns in."""
    lines = "".join(f"      {line}\n" for line in labels.split("\n"))
    return (
        f"metadata:\n  name: fn\n  annotations:\n    type: detector\n    {key}\n{lines}{SPEC}{HTTP}"
    )


def test_a_function_for_cvat(folder: Folder) -> None:
    assert folder.findings(config("type: detector")) == []


def test_a_function_for_others(folder: Folder) -> None:
    text = config("name: x\nversion: one\nstartswith_box: 'false'", "not json")
    assert folder.findings(text) == []


def test_a_wrong_type_does_not_suppress_other_findings(folder: Folder) -> None:
    text = config("type: detectr\nmin_pos_points: x", '[{"name": "car"},]')
    text = text.replace("  description: d\n", "")
    rules = {finding.rule for finding in folder.findings(text)}
    assert rules == {"cvat-type", "cvat-number", "cvat-json", "cvat-description"}


def test_a_function_in_the_project_of_cvat(folder: Folder) -> None:
    text = config("name: x").replace(
        "  annotations:", "  labels: {nuclio.io/project-name: cvat}\n  annotations:"
    )
    finding = folder.only(text)
    assert (finding.severity, finding.rule) == ("warning", "cvat-type")


@pytest.mark.parametrize(
    ("annotations", "severity", "rule", "message"),
    [
        ("type: Detector", "error", "cvat-type", "did you mean detector?"),
        ("type: segmenter", "error", "cvat-type", "detector, interactor, reid, tracker"),
        ("type: detector\nversion: '1.0'", "error", "cvat-number", "whole number"),
        ("type: detector\nversion: one", "error", "cvat-number", "no function at all"),
        ("type: detector\nmin_pos_points: x", "error", "cvat-number", "min_pos_points"),
        ("type: detector\nmin_neg_points:", "error", "cvat-number", "min_neg_points"),
        ("type: interactor\nversion: 1", "warning", "cvat-version", "below 2"),
        ("type: interactor\nstartswith_box: 'false'", "warning", "cvat-flag", "as true"),
        ("type: interactor\nstartswith_box: false", "warning", "cvat-flag", "remove"),
        ("type: interactor\nstartswith_box_optional: 0", "warning", "cvat-flag", "as true"),
        ("type: tracker\nsupported_shape_types: ''", "error", "cvat-shapes", "hides"),
        ("type: tracker\nsupported_shape_types: ' , '", "error", "cvat-shapes", "hides"),
        ("type: tracker\nsupported_shape_types: rectangel", "warning", "cvat-shapes", "rectangle?"),
        ("type: detector\nmin_pos_point: 1", "warning", "cvat-annotation", "min_pos_points?"),
    ],
)
def test_annotations(
    folder: Folder, annotations: str, severity: str, rule: str, message: str
) -> None:
    finding = folder.only(config(annotations))
    assert (finding.severity, finding.rule) == (severity, rule)
    assert message in f"{finding.message} {finding.hint}"
    assert at(finding)[0] == 3 + len(annotations.split("\n"))


@pytest.mark.parametrize(
    "annotations",
    [
        "type: interactor\nversion: 2\nmin_pos_points: '1'\nmin_neg_points: -1",
        "type: interactor\nstartswith_box: true\nstartswith_box_optional: ''",
        "type: tracker\nsupported_shape_types: polygon, rectangle",
        "type: detector\nframework: pytorch\nsupports_text_prompt: true\nown/key: 1",
        "type: detector\ncolor: red\ngenerate_without_prompting_optional: true",
    ],
)
def test_valid_annotations(folder: Folder, annotations: str) -> None:
    assert folder.findings(config(annotations)) == []


def test_a_time_limit_that_cvat_does_not_wait_for(folder: Folder) -> None:
    text = config("type: detector").replace("  handler", "  eventTimeout: 30000s\n  handler")
    finding = folder.only(text)
    assert (finding.severity, finding.rule, at(finding)) == ("warning", "cvat-timeout", (9, 17))


def test_a_function_without_an_http_trigger(folder: Folder) -> None:
    text = config("type: detector").replace(HTTP, "  disableDefaultHTTPTrigger: true\n")
    assert folder.only(text).rule == "cvat-http"


@pytest.mark.parametrize(
    ("triggers", "place", "message"),
    [
        ("", (4, 11), "Nuclio's default of 4 MiB"),
        ("  triggers: {http: {kind: http}}\n", (10, 14), "more than about 3.1 MB"),
        (HTTP.replace("33554432", "4194304"), (10, 66), "is 4194304"),
        (
            HTTP.replace("maxRequestBodySize: 33554432", "maxrequestbodysize: 1000000"),
            (10, 66),
            "0.8",
        ),
    ],
)
def test_requests_that_are_too_small_for_pictures(
    folder: Folder, triggers: str, place: tuple[int, int], message: str
) -> None:
    finding = folder.only(config("type: detector").replace(HTTP, triggers))
    assert (finding.severity, finding.rule, at(finding)) == ("warning", "cvat-request-size", place)
    assert message in finding.message
    assert "`attributes: {maxRequestBodySize: 33554432}` (32 MiB)" in (finding.hint or "")


def test_required_keys_of_each_kind(folder: Folder) -> None:
    for kind, size in (("tracker", 268435456), ("reid", 67108864), ("interactor", 33554432)):
        hint = folder.only(config(f"type: {kind}\nversion: 2").replace(HTTP, "")).hint or ""
        assert f"maxRequestBodySize: {size}" in hint
    assert folder.findings(config("name: x", "").replace(HTTP, "")) == []


def test_labels_without_a_type(folder: Folder) -> None:
    finding = folder.only(config("name: Faces"))
    assert (finding.severity, finding.rule, at(finding)) == ("warning", "cvat-type", (3, 3))
    assert "type: detector" in (finding.hint or "")


def test_no_description(folder: Folder) -> None:
    text = config("type: detector").replace("  description: d\n", "")
    finding = folder.only(text)
    assert finding.rule == "cvat-description"
    assert finding.message.startswith("the function has no description;")


def test_a_detector_without_labels(folder: Folder) -> None:
    assert folder.only(config("type: detector", "")).rule == "cvat-no-labels"
    assert folder.only(config("type: detector", "  ")).rule == "cvat-no-labels"


@pytest.mark.parametrize(
    ("labels", "place", "message"),
    [
        ('[\n  {"name": "a"},\n]', (7, 22), "a comma before the end"),
        ("[\n  {'name': 'a'}\n]", (7, 10), "a single quote"),
        ('[\n  {"name": "a"}\n  {"name": "b"}\n]', (8, 9), "a comma is missing"),
        ('[\n  {"name": "a"} # a\n]', (7, 23), "a comment"),
        ('[\n  {"name": nose}\n]', (7, 18), "not JSON"),
        ('[\n  {"name": "a"}\n', (8, 7), "not JSON"),
        ('\n\n  [\n  {"name": "a" "type": 1}]', (9, 22), "a comma is missing"),
    ],
)
def test_json_errors_are_located_inside_the_block(
    folder: Folder, labels: str, place: tuple[int, int], message: str
) -> None:
    finding = folder.only(block(labels))
    assert (finding.severity, finding.rule) == ("error", "cvat-json")
    assert message in finding.message
    assert at(finding) == place


@pytest.mark.parametrize(
    ("labels", "severity", "place", "message"),
    [
        ('{"name": "a"}', "error", (6, 7), "a list of labels"),
        ('[1]', "error", (6, 8), "label 1 must be an object"),
        ('[{"name": "a"},\n {"id": 2}]', "error", (7, 8), "label 2 has no name"),
        ('[{"name": "a"},\n {"name": "b"},\n {"name": "a"}]', "error", (8, 17), "defined twice"),
        ('[{"name": 5}]', "error", (6, 17), "must be text"),
        ('[{"name": "a", "id": 1},\n {"name": "b", "id": 1}]', "warning", (7, 28), "the id 1"),
        ('[{"name": "a", "type": "rectangel"}]', "warning", (6, 30), "label type"),
        ('[{"name": "a", "tpye": "mask"}]', "warning", (6, 22), "does not read"),
        ('[{"name": "a", "attributes": [{"name": "x"}]}]', "error", (6, 37), "no input_type and"),
        (
            '[{"name": "a", "attributes": [{"name": "x", "input_type": "txt", "values": [""]}]}]',
            "warning", (6, 65), "input_type is one of",
        ),
        (
            '[{"name": "a", "attributes": [{"name": "x", "input_type": "number", "values": [1]}]}]',
            "warning", (6, 85), "its minimum",
        ),
        (
            '[{"name": "a", "attributes": [\n'
            '{"name": "x", "input_type": "text", "values": []},\n'
            '{"name": "x", "input_type": "text", "values": []}]}]',
            "error", (8, 16), "defined twice",
        ),
        ('[{"name": "a", "type": "skeleton", "svg": ""}]', "error", (6, 8), "no sublabels"),
        ('[{"name": "a", "type": "skeleton", "sublabels": []}]', "error", (6, 8), "no svg"),
        (
            '[{"name": "a", "type": "skeleton", "svg": "", "sublabels": []}]',
            "warning",
            (6, 66),
            "and so no points",
        ),
        (
            '[{"name": "a", "type": "skeleton", "sublabels": [{"name": "1"}],\n'
            ' "svg": "<circle data-label-name=\\"2\\"></circle><circle data-label-name=\\"1\\">"}]',
            "warning", (7, 15), "is not a sublabel",
        ),
        (
            '[{"name": "a", "type": "skeleton", "sublabels": [{"name": "1"}, {"name": "2"}],\n'
            ' "svg": "<circle data-node-id=\\"7\\" data-label-name=\\"2\\"></circle>"}]',
            "warning", (7, 15), "no circle for the sublabel '1'",
        ),
        (
            '[{"name": "a", "type": "skeleton", "sublabels": [{"name": "1"}], "svg": ""}]',
            "warning", (6, 79), "no circle for any sublabel",
        ),
        (
            '[{"name": "a", "type": "skeleton", "sublabels": [{"name": "1"}],\n'
            ' "svg": "<circle data-node-id=\\"1\\"><line data-type=\\"edge\\" '
            'data-node-from=\\"1\\" data-node-to=\\"1\\">",\n "edges": [["1", "nose"]]}]',
            "warning", (8, 17), "an edge refers to 'nose'",
        ),
    ],
)  # fmt: skip
def test_labels(
    folder: Folder, labels: str, severity: str, place: tuple[int, int], message: str
) -> None:
    finding = folder.only(block(labels))
    assert finding.severity == severity
    assert message in finding.message
    assert at(finding) == place


@pytest.mark.parametrize("key", ["spec: |", "spec: >", "spec: |-", "spec: >-"])
def test_positions_in_every_kind_of_block(folder: Folder, key: str) -> None:
    finding = folder.only(block('[{"name": "a"},\n {"name": "a"}]', key))
    assert at(finding) == (7, 17)


def test_positions_in_quotes(folder: Folder) -> None:
    text = config("type: detector", '[{"name": "a"}, {"name": "it\'\'s"},\n      {"name": "a"}]')
    assert at(folder.only(text)) == (6, 16)
    double = config("type: detector", "").replace(
        "spec:\n", '    spec: "[{\\"name\\": \\"a\\"}, {\\"name\\": \\"a\\"}]"\nspec:\n', 1
    )
    finding = folder.only(double)
    assert at(finding)[0] == 5
    assert double.split("\n")[4][at(finding)[1] - 1 :].startswith('\\"a')


def test_an_indentation_indicator(folder: Folder) -> None:
    finding = folder.only(block('  [{"id": 1}]', "spec: |2"))
    assert at(finding) == (6, 10)


def test_hundreds_of_labels(folder: Folder) -> None:
    labels = [{"id": n, "name": f"label {n}", "type": "mask"} for n in range(600)]
    assert folder.findings(block(json.dumps(labels, indent=1))) == []


def test_json_that_yaml_reads_differently(folder: Folder) -> None:
    assert folder.findings(block(r'[{"name": "\ud83d\ude00 \/"}]')) == []
    finding = folder.only(block(r'[{"name": "\ud83d\ude00"}, {"id": 1}]'))
    assert finding.rule == "cvat-labels"


@pytest.mark.parametrize("value", ["3.10", "yes", "12"])
def test_a_spec_that_is_not_text(folder: Folder, value: str) -> None:
    text = config("type: detector", "").replace("spec:", f"    spec: {value}\nspec:", 1)
    error = next(finding for finding in folder.findings(text) if finding.severity == "error")
    assert at(error) == (5, 11)


def test_deeply_nested_json(folder: Folder) -> None:
    finding: Diagnostic = folder.only(block("[" * 100_000))
    assert finding.rule == "cvat-json"
