"""The parts that figures are drawn from; `hvae_mnn.plot` puts them together."""
