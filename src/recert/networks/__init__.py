"""The model: activations, blocks, cells, layers, its forward pass and its margins."""
