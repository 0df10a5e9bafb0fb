"""Frames of HTTP/2 in the bytes of a relayed connection."""

from hypothesis import given
from hypothesis import strategies as st

from fnbuild.runtime.processor.grpc_relay import FrameCounter


def frame(size: int, kind: int = 0, flags: int = 0) -> bytes:
    return size.to_bytes(3, "big") + bytes([kind, flags]) + b"\x00\x00\x00\x01" + b"x" * size


@given(st.lists(st.integers(0, 40), min_size=1), st.lists(st.integers(1, 30), min_size=1))
def test_the_ends_of_frames_are_found_wherever_the_bytes_are_split(sizes, steps):
    data = b"".join(map(frame, sizes))
    ends, position = set(), 0
    for size in sizes:
        position += 9 + size
        ends.add(position)
    counter = FrameCounter()
    assert not counter.at_end
    start, reported = 0, set()
    while start < len(data):
        piece = data[start : start + steps[start % len(steps)]]
        end = counter.feed(piece)
        if end:
            reported.add(start + end)
            assert start + end == max(e for e in ends if e <= start + len(piece))
        start += len(piece)
        assert counter.at_end == (start in ends)
    assert len(data) in reported


def test_headers_in_several_frames_are_one_frame():
    counter = FrameCounter()
    assert counter.feed(frame(4, kind=0)) == 13
    assert counter.feed(frame(8, kind=1)) == 0
    assert not counter.at_end
    assert counter.feed(frame(2, kind=9) + frame(3, kind=9, flags=4)) == 23
    assert counter.at_end
