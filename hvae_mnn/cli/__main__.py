"""`python -m hvae_mnn.cli`."""

from hvae_mnn.cli import main

if __name__ == "__main__":  # workers that are spawned import this file too
    main()
