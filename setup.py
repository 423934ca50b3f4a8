"""The parts in C, which are optional: without a compiler the installation has those in Python."""

import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

# By the module that is made of it: a folder of sources.
PARTS = {
    # The walker.
    "lifecycle_sync.observe._native": "src/lifecycle_sync/observe/native",
    # What reads ahead of a backup.
    "lifecycle_sync.act._reading": "src/lifecycle_sync/act/native",
    # What reads the lines of manifests.
    "lifecycle_sync.vault._lines": "src/lifecycle_sync/vault/native",
    # What unlinks many files of a folder.
    "lifecycle_sync._unlinking": "src/lifecycle_sync/native",
}
# The oldest Python of `requires-python`; the same file then serves all later ones.
LIMITED_API = "0x030B0000"


def extensions() -> list[Extension]:
    """What is to be compiled here."""
    # It calls Linux directly; an interpreter without the lock has no limited API yet.
    if sys.platform != "linux" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return []
    return [
        Extension(
            module,
            sources=sorted(str(path) for path in Path(sources).glob("*.c")),
            depends=sorted(str(path) for path in Path(sources).glob("*.h")),
            define_macros=[("Py_LIMITED_API", LIMITED_API), ("_GNU_SOURCE", None)],
            extra_compile_args=["-std=c11", "-O2", "-fvisibility=hidden", "-pthread"],
            extra_link_args=["-pthread"],
            py_limited_api=True,
            optional=True,
        )
        for module, sources in PARTS.items()
    ]


setup(
    ext_modules=extensions(),
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
