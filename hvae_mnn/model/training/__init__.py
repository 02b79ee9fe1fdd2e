"""Settings and the run."""
