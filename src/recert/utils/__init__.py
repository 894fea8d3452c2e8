"""Files, checks of arguments, processes: nothing of the science."""
