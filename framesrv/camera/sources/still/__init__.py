"""Single pictures that are asked for again and again: over HTTP, or in a file."""
