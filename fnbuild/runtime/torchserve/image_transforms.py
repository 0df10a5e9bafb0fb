"""The transforms of torchvision that TorchServe's handlers use, for images of Pillow."""

from typing import Any

_SIZE, _CROP = 256, 224
# Of ImageNet's images, by channel.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Pillow's name of the filter has changed.
_BILINEAR = 2
# The types of pixels by the image's mode; others have bytes.
_TYPES = {"I": "int32", "I;16": "int16", "F": "float32"}


def prepare_image(image: Any) -> Any:
    """Return the tensor of the image's centre, normalized: 224 pixels of a shorter side of 256."""
    import torch

    tensor = image_tensor(_crop(_resize(image)))
    if len(tensor) != len(_MEAN):
        raise ValueError("the image has %d channels (%s), not 3" % (len(tensor), image.mode))
    mean, deviation = (torch.tensor(values).view(-1, 1, 1) for values in (_MEAN, _DEVIATION))
    return tensor.sub_(mean).div_(deviation)


def image_tensor(image: Any) -> Any:
    """Return the image as a tensor of channels, with bytes as numbers from 0 to 1."""
    import numpy
    import torch

    pixels = numpy.array(image, _TYPES.get(image.mode, "uint8"), copy=True)
    if image.mode == "1":
        pixels *= 255
    tensor = torch.from_numpy(pixels.reshape(image.height, image.width, -1))
    tensor = tensor.permute(2, 0, 1).contiguous()
    return tensor.float().div_(255) if tensor.dtype == torch.uint8 else tensor


def _resize(image: Any) -> Any:
    width, height = image.size
    shorter, longer = min(width, height), max(width, height)
    other = int(_SIZE * longer / shorter)
    size = (_SIZE, other) if width <= height else (other, _SIZE)
    return image.resize(size, _BILINEAR)


def _crop(image: Any) -> Any:
    width, height = image.size
    left, top = round((width - _CROP) / 2.0), round((height - _CROP) / 2.0)
    return image.crop((left, top, left + _CROP, top + _CROP))
