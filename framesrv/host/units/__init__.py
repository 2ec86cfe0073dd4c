"""``framesrv units``: the decoders and snapd as services of systemd, one unit a camera.

The unit files themselves are in ``systemd/`` of the project and, as installed, of the package.
"""

from pathlib import Path

CONFIG = Path("/etc/framesrv/framesrv.toml")  # root's; services read the copies that sync makes of it
ENVIRONMENT = Path("/etc/framesrv/framesrv.env")
APPLIED = Path("/etc/framesrv/applied")
ROUTER_CONFIG = CONFIG.parent / "route/framesrv.toml"  # root's, and for the router to read
ROUTER = "framesrv-route"  # the user of the router
USER = "framesrv"  # of snapd; the members of its group read frames
SECRETS = "framesrv-snapd"  # the group that reads snapd's copy
