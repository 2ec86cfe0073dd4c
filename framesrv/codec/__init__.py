"""From coded pictures to frames: the codec and what guards it; the same for whoever brings the packets."""
