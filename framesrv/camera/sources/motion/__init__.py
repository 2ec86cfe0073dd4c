"""Motion JPEG over HTTP: pictures that follow one another in one answer without an end."""
