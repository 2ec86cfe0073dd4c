"""snapd in several processes on one host: one that answers no request keeps the others, and speaks for them."""
