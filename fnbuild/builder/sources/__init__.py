"""Where a function's code comes from: a folder, an archive, a URL, a repository."""
