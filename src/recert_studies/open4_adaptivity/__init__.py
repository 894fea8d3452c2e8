"""Open problem 4: which bounds notice random labels."""
