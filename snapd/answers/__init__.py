"""The way of a result out: a callback, or else a key in Redis."""
