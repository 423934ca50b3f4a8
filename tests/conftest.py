"""What every test may use."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is, and nothing else.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Asserts in shipped suites show their values like those in test modules.
pytest.register_assert_rewrite("lifecycle_sync.testing", "tests.support")

from lifecycle_sync.clock import FixedClock  # noqa: E402

# 2026-01-02T03:04:05Z: a fixed moment, so that no test depends on the day it runs.
START_NS = 1_767_323_045_000_000_000


@pytest.fixture
def clock() -> FixedClock:
    """A clock that stands still until a test moves it."""
    return FixedClock(START_NS)


@pytest.fixture
def root_fd(tmp_path):
    """A descriptor of the test's own directory."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)
