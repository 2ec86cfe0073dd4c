"""Real processes under faults: what is asked, what breaks, and whether every request gets its answer."""
