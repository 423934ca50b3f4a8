"""Temporary files: tracked by the process that made them, or found by their names, and cleaned up.

`manager` and `contexts` serve one process and need no registry; `leases` is how the next start
knows what a killed process left.
"""
