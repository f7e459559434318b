"""Experiments: one published question per file, a result table each."""
