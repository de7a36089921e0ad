"""Bytes to a GGUF header: strict, streaming, bounded."""
