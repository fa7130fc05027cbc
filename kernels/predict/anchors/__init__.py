"""Published measurements on XDNA2 whose access pattern is public, each described to the simulator in a few lines.

They say how far the time model can be believed: nothing in it was fitted to one of them. A description holds what the
source says of the design (tiles, depths, who reads what how often) and the issue slots of its kernel, counted by
running the public kernel through our emulation; `table.py` has the list and the figures.
"""
