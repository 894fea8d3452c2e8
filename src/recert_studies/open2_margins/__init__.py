"""Open problem 2: margins through training."""
