"""At the trained weights, on the sample: what moves of the weights do to margins."""
