"""Pure functions from facts to verdicts: standard library only, no I/O, the time passed in."""
