"""Requests of one stream, each to the host that has its camera: which hosts there are, and moving entries to them."""
