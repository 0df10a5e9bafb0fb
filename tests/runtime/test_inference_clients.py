"""KServe's client and Triton's client, and KServe's server for comparison."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy
import pytest
import requests
import tritonclient.http as triton

from tests import engine
from tests.environments import environment_python
from tests.runtime.conftest import Running, eventually, running
from tests.runtime.grpc_server import inference

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("default")]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FACES = ROOT / "functions" / "opencv" / "face-haar"
PHOTO = ROOT / "docs" / "astronaut.jpg"

# The model of kserve_server.py.
SUMS = """
def handler(context, event):
    body = event.body
    if "instances" in body:
        return {"predictions": [sum(row) for row in body["instances"]]}
    y = body["inputs"][0]["data"].sum(axis=1)
    return {"outputs": [{"name": "y", "datatype": "FP32", "shape": y.shape, "data": y}]}
"""
ROWS = [[1.5, 2.0, 3.25], [4.0, 5.0, -6.5]]


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The model `sums` as a function."""
    settings = inference.settings(protocols=["v1", "v2", "grpc"], model="sums", event="request")
    with running(tmp_path_factory.mktemp("sums"), SUMS, workers=2, **settings) as processor:
        yield processor


@pytest.fixture(scope="module")
def sums(processor: Running) -> str:
    return processor.url


@pytest.fixture(scope="module")
def kserve_python() -> Path:
    return environment_python("3.11", "kserve==0.21.0")


@pytest.fixture(scope="module")
def kserve_addresses(
    kserve_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """The URL and the address for gRPC of KServe's server with the model `sums`."""
    port, grpc_port = engine.free_port(), engine.free_port()
    command = [str(kserve_python), str(HERE / "kserve_server.py"), str(port), str(grpc_port)]
    log = tmp_path_factory.mktemp("kserve") / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT)
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert server.poll() is None, log.read_text()
        try:
            return requests.get(f"{url}/v2/health/ready", timeout=5).ok
        except requests.ConnectionError:
            return False

    try:
        eventually(is_ready)
        yield url, f"127.0.0.1:{grpc_port}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def kserve_url(kserve_addresses: tuple[str, str]) -> str:
    return kserve_addresses[0]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The detector of the library as it is."""
    home = tmp_path_factory.mktemp("faces")
    source = (FACES / "main.py").read_text()
    files = {"function.yaml": (FACES / "function.yaml").read_text()}
    attributes = {
        "protocols": ["v1", "v2"],
        "model": "face-haar",
        "maxRequestBodySize": 33_554_432,
    }
    environ = {"PYTHONPATH": str(ROOT)}
    with running(
        home, source, files=files, workers=2, trigger={"attributes": attributes}, environ=environ
    ) as processor:
        yield processor.url


def test_kserves_clients_get_the_answers_of_kserves_server(
    kserve_python: Path, processor: Running, kserve_addresses: tuple[str, str]
) -> None:
    addresses = [processor.url, processor.grpc_target, *kserve_addresses]
    done = subprocess.run(
        [kserve_python, HERE / "kserve_client.py", *addresses],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ours, theirs = json.loads(done.stdout.splitlines()[-1])
    assert ours == theirs
    y = {"name": "y", "type": "FP32", "shape": [2], "data": [6.75, 2.5]}
    expected = {"id": "r1", "model": "sums", "outputs": [y]}
    http, grpc = ours["http"], ours["grpc"]
    assert http["v1"] == {"predictions": [6.75, 2.5]}
    assert http["v2"] == http["v2 binary"] == grpc["typed"] == grpc["raw"] == expected
    assert all(http[name] for name in ("live", "ready", "v1 ready", "v2 ready"))
    assert all(grpc[name] for name in ("live", "ready", "model ready"))
    assert grpc["unknown model"] == "NOT_FOUND"


GET, POST = "GET", "POST"
V1, V2 = "/v1/models/sums:predict", "/v2/models/sums/infer"
SAME = [
    (GET, "/v1/models", b""),
    (GET, "/v1/models/sums", b""),
    (GET, "/v2/health/live", b""),
    (GET, "/v2/health/ready", b""),
    (GET, "/v2/models", b""),
    (GET, "/v2/models/sums/ready", b""),
    (GET, "/v1/models/nope", b""),
    (GET, "/v2/models/nope", b""),
    (GET, "/v2/models/nope/ready", b""),
    (GET, "/v1/models/sums:predict", b""),
    (POST, V1, b'{"instances": {}}'),
    (POST, "/v1/models/nope:predict", b'{"instances": []}'),
    (POST, "/v1/models/sums:predict", json.dumps({"instances": ROWS}).encode()),
]


@pytest.mark.parametrize(("method", "path", "body"), SAME)
def test_the_same_answer_as_kserve(
    sums: str, kserve_url: str, method: str, path: str, body: bytes
) -> None:
    ours, theirs = (
        requests.request(
            method, url + path, data=body, headers={"Content-Type": "application/json"}, timeout=60
        )
        for url in (sums, kserve_url)
    )
    assert (ours.status_code, ours.json()) == (theirs.status_code, theirs.json())


def infer_body(**changes: Any) -> bytes:
    tensor = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": ROWS}
    return json.dumps({"inputs": [{**tensor, **changes}]}).encode()


ROWS_V1 = json.dumps({"instances": ROWS}).encode()
JSON = {"Content-Type": "application/json"}
DIFFERENT = [
    (POST, V1, b"[]", JSON, 400, 500),
    (POST, V1, ROWS_V1, {"Content-Type": "application/json; charset=utf-8"}, 200, 500),
    (POST, V1, ROWS_V1, {"Content-Type": "application/x-www-form-urlencoded"}, 200, 500),
    (POST, V1, gzip.compress(ROWS_V1), {**JSON, "Content-Encoding": "gzip"}, 200, 400),
    (POST, V2, b"{", JSON, 400, 422),
    (POST, V2, b"{}", JSON, 400, 422),
    (POST, V2, b'{"inputs": []}', JSON, 400, 500),
    (POST, V2, infer_body(shape=[3, 3]), JSON, 400, 500),
    (POST, V2, infer_body(data=["a"] * 6), JSON, 400, 500),
    (POST, V2, infer_body(), {"Content-Type": "text/plain"}, 200, 400),
    (GET, "/v2/models/sums/versions/7", b"", JSON, 200, 501),
    (GET, "/v2/models/sums/versions/8", b"", JSON, 404, 501),
    (POST, "/v2/repository/models/sums/load", b"", JSON, 501, 200),
    (POST, "/v2/repository/index", b"", JSON, 501, 404),
]
"""Requests with another status here than in KServe, as docs/kserve.md lists them."""


@pytest.mark.parametrize("case", DIFFERENT, ids=lambda case: f"{case[1]}-{case[4]}")
def test_differences_from_kserve(sums: str, kserve_url: str, case: Any) -> None:
    method, path, body, headers, here, there = case
    statuses = [
        requests.request(method, url + path, data=body, headers=headers, timeout=60).status_code
        for url in (sums, kserve_url)
    ]
    assert statuses == [here, there]


@pytest.fixture
def triton_client(sums: str) -> Iterator[Any]:
    with triton.InferenceServerClient(sums.removeprefix("http://")) as client:
        yield client


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_tritons_client(triton_client: Any, binary: bool, coding: str | None) -> None:
    values = numpy.ones((4000, 3), "f4")
    tensor = triton.InferInput("x", [4000, 3], "FP32")
    tensor.set_data_from_numpy(values, binary_data=binary)
    result = triton_client.infer(
        "sums",
        [tensor],
        request_id="r2",
        outputs=[triton.InferRequestedOutput("y", binary_data=binary)],
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    assert result.as_numpy("y").tolist() == [3.0] * 4000
    assert result.get_response()["id"] == "r2"


def test_states_through_tritons_client(triton_client: Any) -> None:
    assert triton_client.is_server_live()
    assert triton_client.is_server_ready()
    assert triton_client.is_model_ready("sums")
    assert triton_client.is_model_ready("sums", "7")
    assert not triton_client.is_model_ready("sums", "8")
    assert triton_client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert triton_client.get_model_metadata("sums")["versions"] == ["7"]
    with pytest.raises(triton.InferenceServerException, match="nope does not exist"):
        triton_client.get_model_metadata("nope")


def test_a_cvat_detector_answers_both_protocols(faces: str) -> None:
    jpeg = PHOTO.read_bytes()
    text = base64.b64encode(jpeg).decode()
    expected = requests.post(f"{faces}/", json={"image": text}, timeout=60).json()
    assert [shape["label"] for shape in expected].count("face") >= 1
    # CVAT's own functions send confidences as text; inference protocols have numbers.
    expected = [dict(shape, confidence=float(shape["confidence"])) for shape in expected]

    instances = [{"image": {"b64": text}}, {"data": text}, {"b64": text, "threshold": 1.0}]
    answer = requests.post(
        f"{faces}/v1/models/face-haar:predict", json={"instances": instances}, timeout=60
    )
    assert answer.json() == {"predictions": [expected, expected, []]}

    pixels = cv2.cvtColor(cv2.imread(str(PHOTO)), cv2.COLOR_BGR2RGB)
    ppm_expected = None
    with triton.InferenceServerClient(faces.removeprefix("http://")) as client:
        for name, datatype, value in (
            ("bytes", "BYTES", numpy.array([jpeg], object)),
            ("text", "BYTES", numpy.array([text.encode()], object)),
            ("file", "UINT8", numpy.frombuffer(jpeg, "u1")),
            ("pixels", "UINT8", pixels),
            ("batch", "UINT8", numpy.stack([pixels, pixels])),
        ):
            tensor = triton.InferInput(name, list(value.shape), datatype)
            tensor.set_data_from_numpy(value)
            output = client.infer("face-haar", [tensor]).as_numpy("predictions")
            shapes = [json.loads(element) for element in output]
            assert len(shapes) == (2 if name == "batch" else 1)
            if name in ("pixels", "batch"):
                # The grey image of a JPEG decoder differs from that of its colours.
                ppm_expected = ppm_expected or shapes[0]
                assert shapes == [ppm_expected] * len(shapes)
                assert [shape["label"] for shape in shapes[0]].count("face") >= 1
            else:
                assert shapes == [expected]


def test_a_detector_reports_what_is_no_image(faces: str) -> None:
    for instance in ({"b64": "QUJD"}, {"b64": "not base64"}, {"nothing": 1}):
        answer = requests.post(
            f"{faces}/v1/models/face-haar:predict", json={"instances": [instance]}, timeout=60
        )
        assert answer.status_code == 400
        assert list(answer.json()) == ["error"]
