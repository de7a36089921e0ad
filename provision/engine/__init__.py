"""llama-cpp-python: planned, built or chosen, proven by running."""
