"""The settings of temporary storage: defaults, environment, every fault at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from lifecycle_sync.errors import ConfigError
from lifecycle_sync.service.temp.settings import TempStorageCleanupSettings

DOCUMENTED = {
    "temp_storage_path": Path("./temp_storage"),
    "emergency_cleanup_threshold": 95.0,
    "warning_threshold": 85.0,
    "cleanup_batch_size": 1000,
    "max_orphan_age_hours": 24,
    "scheduled_cleanup_interval_minutes": 60,
    "emergency_check_interval_minutes": 5,
    "cleanup_failed_jobs_after_hours": 1,
    "enable_storage_monitoring": True,
    "log_cleanup_stats": True,
    "min_free_space_gb": 1.0,
    "max_files_per_cleanup": 10000,
    "cleanup_dry_run": False,
    "keep_temp_files_for_debugging": False,
    "storage_check_interval_seconds": 30,
}


def test_the_defaults_are_the_documented_ones():
    settings = TempStorageCleanupSettings(environment={})
    for name, value in DOCUMENTED.items():
        assert getattr(settings, name) == value


def test_the_environment_stands_over_defaults_and_what_is_given_over_both(monkeypatch):
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_EMERGENCY_CLEANUP_THRESHOLD", "90.5")
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_MAX_FILES_PER_CLEANUP", "77")
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_CLEANUP_DRY_RUN", "true")
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_TEMP_STORAGE_PATH", "/somewhere")
    monkeypatch.setenv("TEMP_STORAGE_CLEANUP_WARNING_THRESHOLD", "")
    settings = TempStorageCleanupSettings(max_files_per_cleanup=5)
    assert settings.emergency_cleanup_threshold == 90.5
    assert settings.max_files_per_cleanup == 5
    assert settings.cleanup_dry_run is True
    assert settings.temp_storage_path == Path("/somewhere")
    assert settings.warning_threshold == 85.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("emergency_cleanup_threshold", 101),
        ("emergency_cleanup_threshold", 0),
        ("emergency_cleanup_threshold", "high"),
        ("emergency_cleanup_threshold", float("nan")),
        ("warning_threshold", -1),
        ("warning_threshold", 95.0),
        ("cleanup_batch_size", 0),
        ("cleanup_batch_size", 1.5),
        ("max_orphan_age_hours", 0),
        ("max_orphan_age_hours", -3),
        ("min_free_space_gb", -0.1),
        ("max_files_per_cleanup", True),
        ("cleanup_dry_run", "perhaps"),
        ("temp_storage_path", ""),
        ("temp_storage_path", 7),
        ("job_file_pattern", "*"),
        ("max_cleanup_workers", 0),
    ],
)
def test_what_cannot_be_is_refused_at_once_and_later(name, value):
    with pytest.raises(ConfigError, match=name):
        TempStorageCleanupSettings(environment={}, **{name: value})
    settings = TempStorageCleanupSettings(environment={})
    before = getattr(settings, name)
    with pytest.raises(ConfigError, match=name):
        setattr(settings, name, value)
    assert getattr(settings, name) == before


def test_all_faults_come_at_once_with_the_variables_name():
    with pytest.raises(ConfigError) as raised:
        TempStorageCleanupSettings(
            environment={"TEMP_STORAGE_CLEANUP_MIN_FREE_SPACE_GB": "much"},
            cleanup_batch_size=0,
            max_orphan_age=1,
        )
    assert len(raised.value.faults) == 3
    assert "TEMP_STORAGE_CLEANUP_MIN_FREE_SPACE_GB" in str(raised.value)
    assert "did you mean max_orphan_age_hours?" in str(raised.value)


def test_they_can_be_changed_but_not_misspelt():
    settings = TempStorageCleanupSettings(environment={})
    settings.cleanup_dry_run = True
    settings.keep_temp_files_for_debugging = True
    assert settings.cleanup_dry_run
    with pytest.raises(AttributeError, match="did you mean cleanup_dry_run"):
        settings.cleanup_dry_runs = True
