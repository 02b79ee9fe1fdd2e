"""Sentences on an engine: the step loop, a Run, its journal."""
