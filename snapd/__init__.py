"""snapd: answers snapshot requests from a Redis Stream with pictures of this host's cameras."""
