"""``framesrv top``: every camera of the host, live on a terminal."""
