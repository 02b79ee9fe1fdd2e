"""Studies: tables of models that are trained and measured on one corpus, a row after another."""
