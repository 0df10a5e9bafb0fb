"""CVAT's requests, the replies that it accepts, drawings of them, and CVAT's list of functions."""
