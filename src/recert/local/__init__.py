"""What a move of the weights does to the margins of given sequences (theory, 4d)."""
