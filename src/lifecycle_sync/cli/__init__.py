"""The command `lifecycle`: parses, calls the service, and shows what came of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` and return its exit code.

    Without `argv` it is the process's own, which then belongs to the command: its signals and its
    standard streams are set up for it.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["--version"], ["-V"]):
        # Asked for by scripts and by the impatient: it waits for no library.
        from lifecycle_sync._version import __version__

        print(f"lifecycle {__version__}")
        return 0
    if argv is None:
        from lifecycle_sync.cli.process import prepare

        prepare()
    from lifecycle_sync.cli.app import run_command

    return run_command(arguments)
