"""The audit log: what was done with data, in a transparency log that nobody can rewrite unseen."""
