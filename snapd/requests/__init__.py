"""The way of a request in: the stream in Redis, what is pending, answered before, or dead."""
