"""How a checkpoint's arrays lie in files, read without torch."""
