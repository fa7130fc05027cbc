"""Tests mirror the tree. A package, so that `from tests... import` finds this one and no other of that name."""
