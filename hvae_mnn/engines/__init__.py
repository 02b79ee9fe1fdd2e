"""Ways to read a compiled tile: spice, nodal, software."""
