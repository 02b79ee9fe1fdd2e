"""What is looked at: figures, and tables on a terminal."""
