"""How work is kept whole: folders, Ctrl-C, progress, worker processes, TOML, shipped files."""
