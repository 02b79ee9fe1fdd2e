"""The trained network: corpus, cells, text VAE, training (torch)."""
