"""A camera made of GStreamer's RTSP server: run by the system's Python, which has its bindings (`python3-gi`).

`python3 gstreamer_server.py PORT PIPELINE [USER PASSWORD]` serves the pipeline at /cam, and says so.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

DIGEST = 2  # GstRtsp.RTSPAuthMethod, whose bindings need not be there


def main() -> None:
    port, pipeline, *login = sys.argv[1:]
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {pipeline} )")
    factory.set_shared(True)
    if login:
        authentication = GstRtspServer.RTSPAuth()
        authentication.set_supported_methods(DIGEST)
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        authentication.add_digest(*login, token)
        server.set_auth(authentication)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_role("viewer")
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/cam", factory)
    server.attach(None)
    print("ready", flush=True)  # noqa: T201
    GLib.MainLoop().run()


main()
