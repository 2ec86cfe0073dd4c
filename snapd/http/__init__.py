"""Calling out over HTTP: how long that may take, and who may be called."""
