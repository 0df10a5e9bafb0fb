"""`fnbuild doctor` for clusters."""
