"""Open problem 1: how tight the bounds are."""
