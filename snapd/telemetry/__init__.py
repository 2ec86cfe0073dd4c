"""Where the time of a request goes, and how often what happened."""
