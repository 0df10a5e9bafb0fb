"""The sources of a function's code: a folder, an archive, a URL, a repository."""
