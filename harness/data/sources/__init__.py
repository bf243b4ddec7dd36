"""One module per source: the registered datasets, the user's own text, and the synthetic Markov source."""
