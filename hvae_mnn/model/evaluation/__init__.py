"""A model on a test split."""
