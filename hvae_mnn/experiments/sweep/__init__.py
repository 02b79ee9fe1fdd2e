"""Sweeps of variation: what the hardware's imperfections cost, over many dies."""
