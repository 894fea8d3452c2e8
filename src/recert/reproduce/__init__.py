"""The paper's own evaluation as studies, one module each; the menu is the tuple in `menu`."""
