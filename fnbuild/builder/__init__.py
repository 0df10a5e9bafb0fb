"""From a folder to something that can run: staged code, an interpreter and its packages."""
