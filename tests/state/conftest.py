"""Hypothesis as these tests need it: no deadline for an example, for other work on the machine would fail it."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "state", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("state")
