"""Tests of functions, in the process of the test.

from fnbuild.testing import Client

def test_a_face_is_found():
    (face,) = Client("functions/opencv/face-haar").detect("photo.jpg")
    assert face.label == "face"
"""

from fnbuild.testing.client import Client, Reply

__all__ = ["Client", "Reply"]
