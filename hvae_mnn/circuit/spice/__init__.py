"""One tile as SPICE text, and the names of its nodes."""
