"""Benchmarks: commands that print the numbers of README and docs. Nothing here is a test."""
