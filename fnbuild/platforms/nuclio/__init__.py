"""Functions inside a Nuclio that is there already."""
