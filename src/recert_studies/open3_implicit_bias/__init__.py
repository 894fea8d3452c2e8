"""Open problem 3: spectra under training."""
