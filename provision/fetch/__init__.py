"""Bytes over HTTP into the shared cache: parallel, resumable, verified."""
