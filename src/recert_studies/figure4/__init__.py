"""The paper's Figure 4."""
