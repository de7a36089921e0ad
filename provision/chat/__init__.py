"""Conversation, bench and server."""
