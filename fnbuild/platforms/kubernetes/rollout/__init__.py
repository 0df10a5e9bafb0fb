"""Rollouts: planning, execution and readiness."""
