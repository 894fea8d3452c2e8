"""Weight files with a description, as networks."""
