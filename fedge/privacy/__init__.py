"""Privacy: what was done to data, as facts; what it costs, as judgements of those facts."""
