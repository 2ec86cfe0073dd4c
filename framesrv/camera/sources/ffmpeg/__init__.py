"""Sources that FFmpeg opens: packets, what of them is decoded, what of that is intact."""
