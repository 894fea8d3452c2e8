"""Commands that train, certify and draw: the demo, and runs from the command line."""
