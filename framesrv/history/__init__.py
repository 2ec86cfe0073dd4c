"""A camera's past: the packets of its last seconds in shared memory, their writer and readers, and frames of then."""
