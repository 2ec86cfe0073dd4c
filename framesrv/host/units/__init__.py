"""``framesrv units``: the decoders and snapd as services of systemd, one unit a camera.

The unit files themselves are in ``systemd/`` of the project and, as installed, of the package.
"""

from pathlib import Path

CONFIG = Path("/etc/framesrv/framesrv.toml")  # services read no other
ENVIRONMENT = Path("/etc/framesrv/framesrv.env")
USER = "framesrv"
