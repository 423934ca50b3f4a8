"""The command starts at once, tells how it is used, and ends with the right code."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import click
import pytest

from lifecycle_sync import __version__
from lifecycle_sync.cli.app import lifecycle as group
from tests.support.command import lifecycle

COMMANDS = (
    "run init add accept remove sync status ls find show history sql rebuild doctor completion"
).split()
COSTLY = {"apsw", "blake3", "msgspec", "pathspec", "platformdirs", "rich"}


def modules_of(*arguments: str) -> set[str]:
    """What is imported by a process that runs the command."""
    code = (
        "import sys; from lifecycle_sync.cli import main; main(sys.argv[1:]);"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


def test_the_version_is_told_without_any_library():
    modules = modules_of("--version")
    assert not modules & {*COSTLY, "click", "lifecycle_sync.cli.app", "logging"}
    assert lifecycle("--version").out == f"lifecycle {__version__}\n"


def test_help_costs_click_and_nothing_else():
    modules = modules_of("--help")
    assert not modules & {*COSTLY, "lifecycle_sync.service.engine", "lifecycle_sync.cli.find"}


def test_help_of_a_command_does_not_open_a_registry():
    assert not modules_of("find", "--help") & {*COSTLY, "lifecycle_sync.service.engine"}


@pytest.mark.parametrize(("argument", "seconds"), [("--version", 0.150), ("--help", 0.250)])
def test_it_starts_in_time(argument: str, seconds: float) -> None:
    # Processor time, because other tests run beside this one.
    spent = []
    for _ in range(3):
        before = os.times()
        command = [sys.executable, "-m", "lifecycle_sync", argument]
        subprocess.run(command, capture_output=True, check=True)
        after = os.times()
        spent.append(
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )
    assert min(spent) < seconds


def test_the_help_names_every_command_and_the_exit_codes():
    done = lifecycle("--help")
    assert done.code == 0
    assert all(f"  {name} " in done.out for name in COMMANDS)
    assert all(f"  {code}  " in done.out for code in range(6))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_can_be_parsed(name: str) -> None:
    done = lifecycle(name, "--help")
    assert done.code == 0
    _, _, examples = done.out.partition("Examples:\n")
    lines = [line.strip() for line in examples.splitlines()]
    found = [shlex.split(line) for line in lines if line.startswith(f"lifecycle {name}")]
    assert found
    for words in found:
        command = group.get_command(click.Context(group), name)
        assert command is not None
        until = next((i for i, word in enumerate(words) if word in {">", "|"}), len(words))
        command.make_context(name, words[2:until])


def test_every_command_takes_the_common_options():
    for name in COMMANDS:
        out = lifecycle(name, "--help").out
        for option in ("--config", "--database", "--json", "--quiet", "--verbose"):
            assert option in out, f"{name} has no {option}"


def test_without_a_command_it_shows_its_help():
    done = lifecycle()
    assert (done.code, done.out) == (2, "")
    assert "Usage: lifecycle" in done.err


def test_an_unknown_command_gets_a_hint():
    done = lifecycle("fnd")
    assert done.code == 2
    assert done.err.splitlines() == [
        "lifecycle: there is no command 'fnd'; did you mean find?",
        "  Remedy: `lifecycle --help` shows how it is written",
    ]


def test_a_wrong_option_is_a_usage_error_also_as_json():
    done = lifecycle("status", "--nonsense", "--json")
    assert (done.code, done.out) == (2, "")
    assert done.error["code"] == "usage"
    assert "--nonsense" in done.error["cause"]
    assert "lifecycle status --help" in done.error["remedy"]


@pytest.mark.parametrize("where", ["before", "after"])
def test_common_options_stand_before_or_after_the_command(work, tree, where):
    database = work / "elsewhere.db"
    options = ["--database", str(database), "--json"]
    first = [*options, "add", str(tree)] if where == "before" else ["add", str(tree), *options]
    assert lifecycle(*first).document["roots"][0]["created"]
    assert database.exists()
    assert not (work.parent / "home/data").exists()


def test_what_nobody_foresaw_is_one_line_and_a_traceback_for_those_who_ask(work, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("lifecycle_sync.service.api.read_settings", fail)
    done = lifecycle("status")
    assert done.code == 1
    assert "unexpected ZeroDivisionError: by zero" in done.err
    assert "-v" in done.err
    assert "Traceback" not in done.err
    assert "Traceback" in lifecycle("status", "-v").err
    assert lifecycle("status", "--json").error["code"] == "unexpected"


def test_an_error_of_the_system_names_the_file(work, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/srv/locked")

    monkeypatch.setattr("lifecycle_sync.service.api.read_settings", fail)
    done = lifecycle("status")
    assert done.code == 1
    assert done.err.startswith("lifecycle: /srv/locked: permission denied\n  Remedy: ")


def test_output_that_cannot_be_written_is_a_failure():
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lifecycle_sync", "completion", "zsh"],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("lifecycle: no space left on device\n  Remedy: ")
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_a_shell(shell):
    done = lifecycle("completion", shell)
    assert done.code == 0
    assert "_LIFECYCLE_COMPLETE" in done.out


def test_completion_of_an_unknown_shell_names_those_that_are_known(monkeypatch):
    monkeypatch.setenv("SHELL", "/bin/dash")
    done = lifecycle("completion")
    assert done.code == 2
    assert "bash, zsh, fish" in done.err


def test_completion_completes_commands_and_options():
    def complete(*words: str) -> str:
        environment = os.environ | {
            "_LIFECYCLE_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["lifecycle", *words]),
            "COMP_CWORD": str(len(words)),
        }
        done = subprocess.run(
            [sys.executable, "-m", "lifecycle_sync"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert "plain,find" in complete("fi")
    assert "plain,--larger" in complete("find", "--la")
