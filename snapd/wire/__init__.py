"""The messages themselves: a request, its result, and the texts of errors."""
