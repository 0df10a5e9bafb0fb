"""What a function is: the values of function.yaml, its reader, its rules and CVAT's contract."""
