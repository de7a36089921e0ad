"""From a bare machine to a verified local LLM chat, and the proof that it is right."""

__version__ = "0.1.0"
