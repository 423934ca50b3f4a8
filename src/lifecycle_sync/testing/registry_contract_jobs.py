"""The contract of a registry: jobs that an application keeps in it."""

from __future__ import annotations

import pytest

from lifecycle_sync.errors import NotFoundError, UsageError
from lifecycle_sync.model.temp import DeclaredFile, JobNote, JobState
from lifecycle_sync.testing.registry_contract_base import House, RegistryContractBase


class JobContract(RegistryContractBase):
    """`JobStore`."""

    def test_a_job_has_the_state_that_it_was_given_last_and_since_when(self, house: House) -> None:
        registry = house.registry
        registry.put_job("1", JobState.LIVE, 10)
        registry.put_job("1", JobState.LIVE, 20)
        registry.put_job("ü/'\"", JobState.FINISHED, 30)
        house.reopen()
        registry = house.registry
        assert registry.jobs(["1", "ü/'\"", "2"]) == {
            "1": JobNote(JobState.LIVE, 10, 20),
            "ü/'\"": JobNote(JobState.FINISHED, 30, 30),
        }
        registry.put_job("1", JobState.FAILED, 40)
        assert registry.jobs({"1"}) == {"1": JobNote(JobState.FAILED, 40, 40)}
        assert registry.jobs([]) == {}

    def test_only_a_live_job_beats(self, house: House) -> None:
        registry = house.registry
        registry.put_job("1", JobState.LIVE, 10)
        registry.put_job("2", JobState.FAILED, 10)
        assert registry.beat_job("1", 50)
        assert registry.beat_job("1", 40)
        assert not registry.beat_job("2", 50)
        assert not registry.beat_job("3", 50)
        assert registry.jobs(["1", "2"]) == {
            "1": JobNote(JobState.LIVE, 10, 50),
            "2": JobNote(JobState.FAILED, 10, 10),
        }

    def test_jobs_are_counted_and_those_that_ended_long_ago_forgotten(self, house: House) -> None:
        registry = house.registry
        assert registry.count_jobs() == {}
        for number, state in enumerate([JobState.LIVE, JobState.FAILED, JobState.FINISHED] * 2):
            registry.put_job(f"{number}", state, number)
        assert registry.count_jobs() == {
            JobState.LIVE: 2,
            JobState.FAILED: 2,
            JobState.FINISHED: 2,
        }
        assert registry.forget_jobs(4) == 2
        assert set(registry.jobs([f"{number}" for number in range(6)])) == {"0", "3", "4", "5"}

    def test_files_are_a_jobs_by_their_paths_until_it_is_forgotten(self, house: House) -> None:
        registry = house.registry
        registry.put_job("1", JobState.FINISHED, 10)
        registry.put_job("2", JobState.LIVE, 10)
        files = [
            DeclaredFile(b"/t/\xff", "1", None, 2**40, 2**62),
            DeclaredFile(b"/t/a", "1", "c"),
            DeclaredFile(b"/t/b", "2", "c", 1, 2),
        ]
        registry.declare_files(files)
        house.reopen()
        registry = house.registry
        assert registry.declared_files([b"/t/a", b"/t/\xff", b"/t/c"]) == {
            b"/t/a": files[1],
            b"/t/\xff": files[0],
        }
        moved = DeclaredFile(b"/t/b", "1", None, 1, 3)
        registry.declare_files([moved])
        assert registry.files_of_job("1") == sorted([*files[:2], moved])
        assert registry.files_of_job("2") == []
        with pytest.raises(NotFoundError, match="is not known"):
            registry.declare_files([DeclaredFile(b"/t/x", "2"), DeclaredFile(b"/t/y", "3")])
        assert registry.declared_files([b"/t/x", b"/t/y"]) == {}
        registry.forget_jobs(20)
        assert registry.declared_files([it.path for it in files]) == {}

    @pytest.mark.parametrize("state", [JobState.ABSENT, JobState.UNKNOWN])
    def test_what_is_no_state_to_be_kept_is_refused(self, house: House, state: JobState) -> None:
        with pytest.raises(UsageError, match="is no state of a job"):
            house.registry.put_job("1", state, 10)
        with pytest.raises(UsageError, match="needs an id"):
            house.registry.put_job("", JobState.LIVE, 10)
        with pytest.raises(UsageError, match="needs an id"):
            house.registry.put_job("\udcff", JobState.LIVE, 10)
