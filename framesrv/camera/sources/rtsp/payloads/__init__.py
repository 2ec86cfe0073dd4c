"""How each codec lies in RTP packets."""
