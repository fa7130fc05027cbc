"""Other runtimes for Gemma3 on a CPU beside ours: the same weights, the same machine, in turns."""
