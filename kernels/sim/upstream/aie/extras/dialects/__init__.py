"""Arithmetic on values of the core."""
