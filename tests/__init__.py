"""Tests, and the stand-ins they run against: cameras (RTSP), object storage, the platform, Redis."""
