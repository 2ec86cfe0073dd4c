"""The planes of a slot as arrays over its memory."""

from framesrv.segment.layout import Geometry, Pixels


def views(slot: Pixels, geometry: Geometry) -> tuple[Pixels, ...]:
    """H x W each, or one H x W x 3 for bgr24."""
    views = []
    for plane in geometry.planes:
        rows = slot[plane.offset : plane.offset + plane.stride * plane.rows].reshape(plane.rows, plane.stride)
        views.append(rows if plane.used == plane.stride else rows[:, : plane.used])
    if geometry.pixel_format == "bgr24":
        return (views[0].reshape(geometry.height, geometry.width, 3),)
    return tuple(views)
