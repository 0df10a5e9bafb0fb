"""Libraries that the function's environment may have; None for those that it lacks."""

try:
    import numpy
except ImportError:
    numpy = None  # type: ignore[assignment]
try:
    # A missing libGL raises ImportError, too.
    import cv2
except ImportError:
    cv2 = None  # type: ignore[assignment]

__all__ = ["cv2", "numpy"]
