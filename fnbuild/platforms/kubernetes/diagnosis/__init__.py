"""Diagnosis of rollouts: why pods are not ready, in terms of function.yaml."""
