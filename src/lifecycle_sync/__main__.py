"""`python -m lifecycle_sync` is the command `lifecycle`."""

from __future__ import annotations

import sys

from lifecycle_sync.cli import main

if __name__ == "__main__":
    sys.exit(main())
