"""The parts that figures are drawn from; `hvae_mnn.reports.plot` puts them together."""
