"""Random lives of a root, its vaults and its registry, beside a dictionary (`make lives`)."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

from tests.support.estate_machine import EncryptedMachine, EstateMachine

TestEstateLives = EstateMachine.TestCase
TestEncryptedLives = EncryptedMachine.TestCase
TestEstateLives.settings = TestEncryptedLives.settings = settings(
    max_examples=2,
    stateful_step_count=8,
    deadline=None,
    derandomize=True,
    # What fails is led again, and made small, by `make lives`.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
