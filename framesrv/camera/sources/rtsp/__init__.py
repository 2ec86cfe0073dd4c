"""Cameras that speak RTSP: the session, the packets of RTP, and the access units in them."""
