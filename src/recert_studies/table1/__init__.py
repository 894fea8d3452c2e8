"""The paper's Table 1 and its claims of growth."""
