"""Control flow of core programs."""
