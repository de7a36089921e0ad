"""Talking to people and scripts: one file per command."""
