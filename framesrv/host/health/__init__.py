"""``framesrv health``: is this host well? What was found, the cause that matters most first.

It asks nobody who might not answer: segments say how cameras do, snapd's report what became of uploads and callbacks,
systemd how the units are. Each look has a deadline. What may not be looked at is said, and is no trouble.
"""
