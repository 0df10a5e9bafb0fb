"""Is a function right: what CVAT would ask it, what CVAT accepts of its replies, how they look."""
