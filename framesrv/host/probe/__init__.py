"""``framesrv probe`` and ``framesrv discover``: what a source is, which cameras there are, and what to configure."""
