"""Recorded requests and replies: the files of a recording, and the part of the processor."""
