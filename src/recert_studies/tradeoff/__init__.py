"""What caps on ‖U‖ cost and buy."""
