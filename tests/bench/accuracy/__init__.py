"""What each way to quantise costs, on the real Gemma3-270M; see __main__.py."""
