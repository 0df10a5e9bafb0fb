"""The zero-shot detector with small models of both architectures and random weights."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.functions import transformers_models
from tests.functions.conftest import ROOT, import_module_of
from tests.functions.transformers_models import PHOTO

pytestmark = pytest.mark.system

FOLDER = ROOT / "functions/transformers/zero-shot-detector"
PROMPTS = ["person", "Big dog", "traffic light"]


@pytest.fixture(scope="module", params=("grounding_dino", "owlv2"))
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with a model, and the model."""
    folder = tmp_path_factory.mktemp(request.param)
    return folder, transformers_models.save_zero_shot(request.param, folder)


@pytest.fixture
def model(saved: Any) -> Any:
    return import_module_of(FOLDER, "model_handler").ModelHandler(saved[0])


def photo() -> Image.Image:
    return Image.open(io.BytesIO(PHOTO)).convert("RGB")


def package_results(folder: Path, network: Any) -> Any:
    """Return the results of the package's own processor for the prompts."""
    from transformers import AutoImageProcessor, AutoTokenizer, GroundingDinoProcessor
    from transformers.models.owlv2.processing_owlv2 import Owlv2Processor

    parts = AutoImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    sizes = [photo().size[::-1]]
    if "grounding" in network.config.model_type:
        # The class checks its parts against torchvision's.
        processor = GroundingDinoProcessor.__new__(GroundingDinoProcessor)
        processor.image_processor, processor.tokenizer = parts
        text = processor._preprocess_input_text(PROMPTS)
        inputs = {**parts[0](photo(), return_tensors="pt"), **parts[1](text, return_tensors="pt")}
        with torch.inference_mode():
            outputs = network(**inputs)
        return processor.post_process_grounded_object_detection(
            outputs, inputs["input_ids"], threshold=0.5, text_threshold=0.5, target_sizes=sizes
        )[0]
    processor = Owlv2Processor.__new__(Owlv2Processor)
    processor.image_processor, processor.tokenizer = parts
    texts = parts[1](PROMPTS, padding="max_length", max_length=16, return_tensors="pt")
    with torch.inference_mode():
        outputs = network(**parts[0](photo(), return_tensors="pt"), **texts)
    return processor.post_process_grounded_object_detection(
        outputs, threshold=0.0001, target_sizes=sizes, text_labels=[PROMPTS]
    )[0]


def test_results_equal_those_of_the_package(saved: Any, model: Any) -> None:
    folder, network = saved
    expected = package_results(folder, network)
    threshold = 0.5 if model.reads_one_text else 0.0001
    boxes, numbers, scores = model.infer(np.asarray(photo()), PROMPTS, threshold)
    assert len(boxes) > 0
    by_box = {tuple(box): score for box, score in zip(boxes, scores, strict=True)}
    names = {tuple(box): PROMPTS[n] for box, n in zip(boxes, numbers, strict=True)}
    # The package's score of Grounding DINO may be that of a full stop: such boxes are left out.
    pairs = zip(expected["boxes"].numpy(), expected["scores"].tolist(), strict=True)
    same = [(tuple(box), score) for box, score in pairs if tuple(box) in by_box]
    assert len(same) == len(boxes)
    assert sum(by_box[box] == pytest.approx(score, abs=1e-6) for box, score in same) > len(same) / 2
    labels = dict(zip(map(tuple, expected["boxes"].numpy()), expected["text_labels"], strict=True))
    for box, name in names.items():
        assert set(name.lower().split()) & set(labels[box].replace(".", " ").split())


def test_prompts_that_exceed_one_text_are_split(saved: Any, model: Any) -> None:
    image = np.asarray(photo())
    if not model.reads_one_text:
        pytest.skip("each prompt is a text of its own")
    both = model.infer(image, ["red car", "cat"], 0)
    model.network.config.max_text_len = 5
    split = model.infer(image, ["red car", "cat"], 0)
    model.network.config.max_text_len = 256
    assert len(split[0]) == 2 * len(both[0])
    alone = model.infer(image, ["cat"], 0)
    assert np.array_equal(split[2][-len(alone[2]) :], alone[2])
    assert set(split[1].tolist()) == {0, 1}


def test_the_labels_are_the_prompts_unless_the_request_has_some(
    saved: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names(**options: Any) -> set[str]:
        reply = transformers_models.ask(
            FOLDER, saved[0], PHOTO, monkeypatch, threshold=0.0001, **options
        )
        return {shape.label for shape in reply.shapes}

    assert names() <= {"person", "dog", "traffic light"}
    assert names()
    assert names(text_prompts=["red car"]) == {"red car"}


@pytest.mark.parametrize("prompts", [{"a": 1}, [1], [" "]])
def test_invalid_prompts_are_refused(
    saved: Any, monkeypatch: pytest.MonkeyPatch, prompts: Any
) -> None:
    with pytest.raises(AssertionError, match="must be a list of texts"):
        transformers_models.ask(FOLDER, saved[0], PHOTO, monkeypatch, text_prompts=prompts)


@pytest.mark.parametrize("size", [(1, 1), (37, 211), (1, 900)])
def test_images_of_every_size(
    saved: Any, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    file = io.BytesIO()
    Image.new("L", size, 200).save(file, "PNG")
    transformers_models.ask(FOLDER, saved[0], file.getvalue(), monkeypatch, threshold=0.01)
