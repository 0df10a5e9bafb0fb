"""CVAT against a real dashboard and real functions, by both ways of invoking them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cvat_simulator import Cvat, CvatError, Task, to_rle
from tests.dashboard.conftest import Dashboard
from tests.dashboard.models import frame, write_models
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

WAYS = ("dashboard", "direct")


@pytest.fixture(scope="module")
def models(dashboard: Dashboard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One function of each kind, and a tracker that declares its shapes, in the project cvat."""
    folders = write_models(tmp_path_factory.mktemp("models"))
    for folder in folders:
        dashboard.deploy(folder, "--project-name", "cvat")
    yield
    for folder in folders:
        dashboard.cli("delete", "function", folder.name)


@pytest.fixture(params=WAYS)
def cvat(request: pytest.FixtureRequest, dashboard: Dashboard, models: None) -> Cvat:
    return Cvat(dashboard.url, invoke_method=request.param)


@pytest.fixture(scope="session")
def photograph(photo: Callable[[str], Path]) -> Path:
    return photo("astronaut.png")


@pytest.fixture
def task(photograph: Path) -> Task:
    return Task([frame(photograph, at) for at in range(3)])


def test_the_models_page_shows_every_kind(dashboard: Dashboard, models: None) -> None:
    listed = Cvat(dashboard.url).functions()
    kinds = {name: model.kind for name, model in listed.items()}
    wanted = {
        "finder": "detector",
        "clicker": "interactor",
        "follower": "tracker",
        "shaper": "tracker",
        "matcher": "reid",
    }
    assert kinds | wanted == kinds
    assert [label["name"] for label in listed["finder"].labels][:2] == ["thing", "area"]
    assert listed["shaper"].shape_types == ["rectangle", "polygon"]
    assert listed["follower"].description == "follower of the tests"
    assert listed["clicker"].version == 2
    assert all(isinstance(model.port, int) and model.port for model in listed.values())


def test_a_detector_finds_every_type_of_shape(cvat: Cvat, task: Task) -> None:
    shapes_by_label = {
        shape["label"]: shape for shape in cvat.detect("finder", task, 1, threshold=0.5)
    }
    assert list(shapes_by_label) == ["thing", "area", "outline", "body", "whole"]
    values = {
        attribute["name"]: attribute["value"]
        for attribute in shapes_by_label["thing"]["attributes"]
    }
    digest = hashlib.sha256(task.frames[1]).hexdigest()
    assert values == {"digest": digest, "threshold": "50"}
    assert shapes_by_label["thing"]["points"] == [40, 30, 79, 59]
    assert shapes_by_label["area"]["points"] == [0, 1200, 40, 30, 79, 59]
    assert [element["points"] for element in shapes_by_label["body"]["elements"]] == [
        [1, 2],
        [2, 2],
    ]


def test_an_interactor_returns_a_mask_for_clicks(cvat: Cvat, task: Task) -> None:
    (mask,) = cvat.interact("clicker", task, 0, [[10, 20]], box=[[5, 6], [30, 40]])
    pixels = [int(5 <= x <= 30 and 6 <= y <= 40) for y in range(120) for x in range(160)]
    assert mask == to_rle([*pixels, 0, 0, 159, 119])


def test_a_sleeping_interactor_answers_its_first_click(
    cvat: Cvat, task: Task, dashboard: Dashboard
) -> None:
    dashboard.cli("sleep", "clicker")
    assert cvat.functions()["clicker"].kind == "interactor"
    assert "asleep" in dashboard.cli("get", "function", "clicker").stderr
    (mask,) = cvat.interact("clicker", task, 0, [[10, 20]], box=[[5, 6], [30, 40]])
    assert mask[-4:] == [0, 0, 159, 119]
    assert "asleep" not in dashboard.cli("get", "function", "clicker").stderr


def test_a_tracker_follows_plain_boxes(cvat: Cvat, task: Task) -> None:
    states = cvat.init_tracking("follower", task, 0, [[1, 2, 30, 40], [5, 5, 9, 9]])
    assert len(states) == 2
    states, shapes = cvat.track("follower", task, 1, states)
    assert [shape["points"] for shape in shapes] == [[2, 2, 31, 40], [6, 5, 10, 9]]
    _, shapes = cvat.track("follower", task, 2, states)
    assert shapes[0] == {"type": "rectangle", "points": [3, 2, 32, 40]}


def test_a_tracker_follows_the_shapes_it_declares(cvat: Cvat, task: Task) -> None:
    polygon = {"type": "polygon", "points": [0, 0, 10, 0, 10, 10]}
    states = cvat.init_tracking("shaper", task, 0, [polygon])
    _, shapes = cvat.track("shaper", task, 1, states)
    assert shapes == [{"type": "polygon", "points": [1, 0, 11, 0, 11, 10]}]


def test_states_may_be_sent_again(cvat: Cvat, task: Task) -> None:
    first = cvat.init_tracking("follower", task, 0, [[1, 2, 30, 40]])
    _, once = cvat.track("follower", task, 1, first)
    _, again = cvat.track("follower", task, 1, first)
    assert once == again == [{"type": "rectangle", "points": [2, 2, 31, 40]}]


def test_states_belong_to_one_function_and_expire(cvat: Cvat, task: Task) -> None:
    states = cvat.init_tracking("follower", task, 0, [[1, 2, 30, 40]])
    with pytest.raises(CvatError, match="Invalid or expired tracker state"):
        cvat.track("shaper", task, 1, states)
    now = cvat.clock()
    cvat.clock = lambda: now + 8 * 3600 + 60
    with pytest.raises(CvatError, match="Invalid or expired") as failure:
        cvat.track("follower", task, 1, states)
    assert failure.value.status == 400


def test_reidentification_pairs_boxes(cvat: Cvat, task: Task) -> None:
    before = [{"points": [10, 0, 20, 9], "label_id": 1}, {"points": [90, 0, 99, 9], "label_id": 1}]
    after = [{"points": [95, 0, 99, 9], "label_id": 1}, {"points": [12, 0, 22, 9], "label_id": 1}]
    assert cvat.reidentify("matcher", task, (0, 1), (before, after)) == [1, 0]


def test_a_batch_of_two_hundred_frames(cvat: Cvat, photograph: Path) -> None:
    task = Task([frame(photograph, at) for at in range(200)])
    job = cvat.annotate("finder", task)
    assert (job.state, job.error, len(job.saved)) == ("finished", "", 200)
    for number, shapes in job.saved.items():
        digest = hashlib.sha256(task.frames[number]).hexdigest()
        assert {"name": "digest", "value": digest} in shapes[0]["attributes"]


def test_a_batch_ends_at_its_first_failure(cvat: Cvat, photograph: Path) -> None:
    frames = [frame(photograph, at) for at in range(120)]
    job = cvat.annotate("finder", Task([*frames, frame(photograph, 0, "raise"), *frames]))
    assert job.state == "failed"
    assert job.error.startswith("500: 500 Server Error")
    assert len(job.saved) == 100


@pytest.mark.parametrize(
    ("order", "status", "message"),
    [
        ("raise", 500, "500 Server Error"),
        ("sleep", 408, "408 Client Error"),
        ("text", 500, "not JSON"),
        ("strings", 400, "Value must be a float or an integer"),
    ],
)
@pytest.mark.usefixtures("idle")
def test_a_function_that_fails(
    cvat: Cvat, photograph: Path, order: str, status: int, message: str
) -> None:
    with pytest.raises(CvatError, match=message) as failure:
        cvat.detect("finder", Task([frame(photograph, 0, order)]), 0)
    assert failure.value.status == status


@pytest.fixture
def idle(cvat: Cvat, task: Task) -> None:
    """Wait until the detector's only worker is idle: a client may have disconnected early."""

    def answers() -> bool:
        try:
            return bool(cvat.detect("finder", task, 0))
        except CvatError:
            return False

    until(answers, "the detector is idle")


@pytest.mark.usefixtures("idle")
def test_a_function_that_is_slower_than_cvat(cvat: Cvat, photograph: Path) -> None:
    cvat.timeout = 0.5
    with pytest.raises(CvatError) as failure:
        cvat.detect("finder", Task([frame(photograph, 0, "sleep")]), 0)
    assert failure.value.status == 504


@pytest.mark.usefixtures("idle")
def test_no_worker_is_available(cvat: Cvat, photograph: Path, task: Task) -> None:
    over = threading.Event()

    def sleep() -> None:
        while not over.is_set():
            with pytest.raises(CvatError):
                cvat.detect("finder", Task([frame(photograph, 0, "sleep")]), 0)

    other = threading.Thread(target=sleep)
    other.start()
    statuses: list[int] = []

    def refused() -> bool:
        try:
            cvat.detect("finder", task, 0)
        except CvatError as error:
            statuses.append(error.status)
        return bool(statuses)

    try:
        until(refused, "a request meets a busy worker")
    finally:
        over.set()
        other.join()
    assert statuses == [503]


def test_a_body_that_is_too_large(cvat: Cvat, photograph: Path) -> None:
    large = frame(photograph) + bytes(2 << 20)
    with pytest.raises(CvatError) as failure:
        cvat.detect("finder", Task([large]), 0)
    # Nuclio's processor replies 400, which hides the reason.
    assert failure.value.status == 413


@pytest.fixture
def codeless(dashboard: Dashboard, models: None, tmp_path: Path) -> Iterator[str]:
    """A detector that was imported and has no port yet."""
    value = {
        "metadata": {"name": "codeless", "annotations": {"type": "detector"}},
        "spec": {"handler": "main:handler", "runtime": "python:3.11"},
    }
    exported = tmp_path / "exported.json"
    exported.write_text(json.dumps(value))
    dashboard.cli("import", "functions", str(exported))
    yield "codeless"
    dashboard.cli("delete", "function", "codeless")


def test_a_function_that_is_not_running(cvat: Cvat, task: Task, codeless: str) -> None:
    assert cvat.get(codeless).port == 0
    with pytest.raises(CvatError) as failure:
        cvat.detect(codeless, task, 0)
    assert failure.value.status == 503


def test_a_missing_function(cvat: Cvat, task: Task) -> None:
    with pytest.raises(CvatError) as failure:
        cvat.detect("nobody", task, 0)
    assert failure.value.status == 404


def test_the_dashboard_is_down() -> None:
    with pytest.raises(CvatError) as failure:
        Cvat("http://127.0.0.1:9").functions()
    assert failure.value.status == 503
