"""From a camera's newest frame to a JPEG."""
