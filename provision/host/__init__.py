"""What a machine is, how it is read, and what blocks it."""
