"""A camera's frames in shared memory: the bytes, who may touch them when, and their writer and readers."""
