"""Small models of transformers with random weights, built from their configuration and saved.

The modules of transformers are imported inside the functions: they have an environment of their
own.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from fnbuild.cvat.replies import ParsedReply, read_reply
from fnbuild.cvat.request import build_request
from fnbuild.function import labels
from fnbuild.function.reader import load_function
from tests.environments import environment_python
from tests.functions.conftest import ROOT, Handler

PHOTO = (ROOT / "docs/astronaut.jpg").read_bytes()

NAMES = {0: "car", 1: "person", 2: "traffic light"}
_TRANSFORMER = {
    "d_model": 32,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "num_queries": 8,
    "id2label": NAMES,
    "label2id": {name: number for number, name in NAMES.items()},
}
_LEVELS = {
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [16, 32, 32],
    "decoder_in_channels": [32, 32, 32],
    "hidden_expansion": 0.5,
    "num_denoising": 0,
}
_WORDS = ["car", "person", "traffic", "light", "dog", "red", "##s", "cat", "big", "##ly"]
_STAGES = ["stage2", "stage3", "stage4"]


def add_packages() -> None:
    """Make transformers and onnxruntime importable; the tests' own environment has torch."""
    python = environment_python("3.11", "transformers==5.23.0", "onnxruntime==1.23.2")
    (folder,) = map(str, python.parent.parent.glob("lib/python3.11/site-packages"))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if folder not in sys.path:
        # At the end: what both have comes from the tests' environment.
        sys.path.append(folder)


def ask(
    function: Path, storage: Path, image: bytes, patch: pytest.MonkeyPatch, **options: Any
) -> ParsedReply:
    """Return the reply of a function with this model to CVAT's request, as CVAT reads it."""
    add_packages()
    patch.setenv("STORAGE_URI", str(storage))
    # Embeddings in shared memory belong to a name.
    patch.setenv("NUCLIO_FUNCTION_NAME", str(storage))
    patch.chdir(function)
    loaded = load_function(function).function
    kind = labels.function_kind(loaded)
    assert kind
    more = {name: options.pop(name) for name in ("text_prompts",) if name in options}
    sent = build_request(kind, image, **options)
    body = json.loads(sent.body)
    status, content = Handler(function)({**body, **more})
    assert status == 200, content
    reply = read_reply(kind, content, labels.function_labels(loaded), sent.image.size, sent)
    assert more or [str(problem) for problem in reply.diagnostics] == []
    return reply


def save_detector(kind: str, folder: Path) -> Any:
    """Save a detector with its image processor; return the model."""
    add_packages()
    torch.manual_seed(0)
    model, processor = _DETECTORS[kind]()
    return _save(model, processor, folder)


def save_zero_shot(kind: str, folder: Path) -> Any:
    """Save a zero-shot detector with its image processor and tokenizer; return the model."""
    add_packages()
    torch.manual_seed(0)
    model, processor, tokenizer = _ZERO_SHOT[kind]()
    tokenizer.save_pretrained(folder)
    return _save(model, processor, folder)


def save_sam2(folder: Path, side: int = 256, channels: int = 16) -> Any:
    """Save a SAM 2 with its memory, from which `Sam2Model` loads, too; return the model."""
    add_packages()
    from transformers import Sam2VideoConfig, Sam2VideoModel

    torch.manual_seed(0)
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": channels,
        "image_size": [side, side],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [channels * 2**stage for stage in range(4)],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [8, 4, 8, 4],
        "global_attention_blocks": [3],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": [channels * 2**stage for stage in (3, 2, 1, 0)],
        "backbone_feature_sizes": [[side // n, side // n] for n in (4, 8, 16)],
        "fpn_hidden_size": 128,
    }
    config = Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 128, "image_size": side},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 64, "iou_head_hidden_dim": 64},
        image_size=side,
        memory_attention_hidden_size=128,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=[side // 16, side // 16],
        memory_encoder_hidden_size=128,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=64,
    )
    model = Sam2VideoModel(config).eval()
    model.save_pretrained(folder)
    return model


def sam(side: int = 256) -> Any:
    """Return a SAM with random weights."""
    add_packages()
    from transformers import SamConfig, SamModel

    torch.manual_seed(0)
    vision = {
        "hidden_size": 32,
        "output_channels": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "mlp_dim": 64,
        "image_size": side,
        "global_attn_indexes": [1],
        "num_pos_feats": 16,
    }
    prompts = {"hidden_size": 32, "image_size": side, "image_embedding_size": side // 16}
    decoder = {
        "hidden_size": 32,
        "mlp_dim": 64,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 32,
    }
    config = SamConfig(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder
    )
    return SamModel(config).eval()


class SamDecoder(torch.nn.Module):
    """The decoder with the inputs and outputs that Meta's script exports."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(  # noqa: PLR0917 - those of the export
        self,
        image_embeddings: torch.Tensor,
        point_coords: torch.Tensor,
        point_labels: torch.Tensor,
        mask_input: torch.Tensor,
        has_mask_input: torch.Tensor,
        orig_im_size: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        encoder, side = self.model.prompt_encoder, self.model.config.vision_config.image_size
        points = encoder.shared_embedding(point_coords[:, None] + 0.5, (side, side))
        labels = point_labels[:, None, :, None]
        points = torch.where(labels == -1, encoder.not_a_point_embed.weight, points)
        for number, embedding in enumerate(encoder.point_embed):
            points = points + embedding.weight * (labels == number)
        dense = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(image_embeddings.shape)
        # The export keeps inputs that are used only.
        dense = dense + 0 * (mask_input * has_mask_input).mean()
        low, scores, *_ = self.model.mask_decoder(
            image_embeddings=image_embeddings,
            image_positional_embeddings=self.model.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=points,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        sizes = orig_im_size.long()
        masks = torch.nn.functional.interpolate(
            low[:, 0], (side, side), mode="bilinear", align_corners=False
        )
        longest = sizes.max()
        height, width = ((sizes * side + longest // 2) // longest).unbind()
        masks = torch.nn.functional.interpolate(
            masks[..., :height, :width],
            (sizes[0], sizes[1]),
            mode="bilinear",
            align_corners=False,
        )
        return masks, scores[:, 0], low[:, 0]


def export_sam(model: Any, folder: Path) -> None:
    """Export encoder.onnx and decoder.onnx."""
    from torch.onnx._internal.torchscript_exporter import onnx_proto_utils

    side = model.config.vision_config.image_size
    image = torch.zeros(1, 3, side, side)
    embedding = model.get_image_embeddings(image)
    folder.mkdir(exist_ok=True)
    prompt = {
        "image_embeddings": embedding,
        "point_coords": torch.ones(1, 2, 2),
        "point_labels": torch.tensor([[1.0, -1.0]]),
        "mask_input": torch.zeros(1, 1, side // 4, side // 4),
        "has_mask_input": torch.zeros(1),
        "orig_im_size": torch.tensor([90.0, 120.0]),
    }
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # The exporter is deprecated, but its successor needs more packages.
        warnings.simplefilter("ignore")
        # Without custom operators, the package onnx is not needed.
        patch.setattr(onnx_proto_utils, "_add_onnxscript_fn", lambda model_bytes, _: model_bytes)
        encoder = torch.nn.Module()
        encoder.network = model.vision_encoder
        encoder.forward = lambda pixels: encoder.network(pixels)[0]  # type: ignore[method-assign]
        options = {"dynamo": False, "opset_version": 17}
        torch.onnx.export(encoder, (image,), str(folder / "encoder.onnx"), **options)
        torch.onnx.export(
            SamDecoder(model),
            tuple(prompt.values()),
            str(folder / "decoder.onnx"),
            input_names=list(prompt),
            output_names=["masks", "iou_predictions", "low_res_masks"],
            dynamic_axes={"point_coords": {1: "points"}, "point_labels": {1: "points"}},
            **options,
        )


def _save(model: Any, processor: Any, folder: Path) -> Any:
    model.eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model


def _detr() -> tuple[Any, Any]:
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig
    from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, out_features=["stage4"]
    )
    config = DetrConfig(
        backbone_config=backbone, encoder_layers=1, decoder_layers=1, **_TRANSFORMER
    )
    processor = DetrImageProcessorPil(size={"shortest_edge": 96, "longest_edge": 160})
    return DetrForObjectDetection(config), processor


def _rt_detr() -> tuple[Any, Any]:
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[16, 16, 32, 32], depths=[1] * 4, out_features=_STAGES
    )
    config = RTDetrConfig(backbone_config=backbone, decoder_layers=1, **_TRANSFORMER, **_LEVELS)
    return RTDetrForObjectDetection(config), _square_processor()


def _d_fine() -> tuple[Any, Any]:
    from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config

    backbone = HGNetV2Config(
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 16, 16, 32],
        stage_mid_channels=[8] * 4,
        stage_out_channels=[16, 16, 32, 32],
        stage_num_blocks=[1] * 4,
        stage_numb_of_layers=[1] * 4,
        hidden_sizes=[16, 16, 32, 32],
        out_features=_STAGES,
    )
    config = DFineConfig(
        backbone_config=backbone,
        decoder_layers=2,
        decoder_n_points=[2, 2, 2],
        **_TRANSFORMER,
        **_LEVELS,
    )
    return DFineForObjectDetection(config), _square_processor()


def _square_processor() -> Any:
    from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil

    return RTDetrImageProcessorPil(size={"height": 96, "width": 96})


def _grounding_dino() -> tuple[Any, Any, Any]:
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        SwinConfig,
    )
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
        GroundingDinoImageProcessorPil,
    )

    # The model knows the numbers of four special tokens.
    vocabulary = [f"[unused{number}]" for number in range(1040)]
    vocabulary[0], vocabulary[100:104] = "[PAD]", ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary[1012], vocabulary[1029] = ".", "?"
    vocabulary[200 : 200 + len(_WORDS)] = _WORDS
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(vocabulary)})
    text = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    backbone = SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1] * 4,
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_indices=[2, 3, 4],
    )
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        encoder_layers=1,
        decoder_layers=2,
        **{name: value for name, value in _TRANSFORMER.items() if "label" not in name},
    )
    processor = GroundingDinoImageProcessorPil(size={"shortest_edge": 128, "longest_edge": 256})
    return GroundingDinoForObjectDetection(config), processor, tokenizer


def _owlv2() -> tuple[Any, Any, Any]:
    from transformers import CLIPTokenizer, Owlv2Config, Owlv2ForObjectDetection
    from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

    letters = [chr(number) for number in range(ord("a"), ord("z") + 1)]
    tokens = ["!", *letters, *(f"{letter}</w>" for letter in letters), "<start>", "<end>"]
    tokenizer = CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=[],
        unk_token="<end>",
        bos_token="<start>",
        eos_token="<end>",
        pad_token="!",
    )
    size = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = {"vocab_size": len(tokens), "bos_token_id": len(tokens) - 2}
    config = Owlv2Config(
        text_config={**size, **text, "eos_token_id": len(tokens) - 1},
        vision_config={**size, "image_size": 64, "patch_size": 16},
        projection_dim=32,
    )
    processor = Owlv2ImageProcessorPil(size={"height": 64, "width": 64})
    return Owlv2ForObjectDetection(config), processor, tokenizer


_ZERO_SHOT = {"grounding_dino": _grounding_dino, "owlv2": _owlv2}
_DETECTORS = {"detr": _detr, "rt_detr": _rt_detr, "d_fine": _d_fine}
