"""Words: corpora, vocabularies and the grammar."""
