"""Checkpoint to Build: blocks, mapping, decks."""
