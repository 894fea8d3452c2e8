"""When gates make a bound smaller (Section 5)."""
