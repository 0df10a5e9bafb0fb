"""Tools for handlers: the image of a request as an array, and shapes for CVAT.

Runs on Python 3.6 and newer, and imports nothing but the standard library. Decoding uses OpenCV if
the function's environment has it, else Pillow.

    from fnbuild import vision

    def handler(context, event):
        try:
            image = vision.decode(event)
            threshold = vision.fields(event).get("threshold", 0.5)
        except vision.ImageError as error:
            return vision.reply(context, {"error": str(error)}, error.reply_status)
        return vision.reply(context, [vision.rectangle("cat", (10, 20, 110, 90), 0.93)])
"""

from .decoding import decode, decode_image, open_image
from .image_headers import MAX_PIXELS, ImageError, ImageTooLargeError
from .request_body import fields, image_file
from .shapes import (
    ellipse,
    mask,
    points,
    polygon,
    polyline,
    rectangle,
    reply,
    skeleton,
    tag,
)

__all__ = [
    "MAX_PIXELS",
    "ImageError",
    "ImageTooLargeError",
    "decode",
    "decode_image",
    "ellipse",
    "fields",
    "image_file",
    "mask",
    "open_image",
    "points",
    "polygon",
    "polyline",
    "rectangle",
    "reply",
    "skeleton",
    "tag",
]
