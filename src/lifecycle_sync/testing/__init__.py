"""Doubles and contract suites, shipped for those who build on the protocols."""
