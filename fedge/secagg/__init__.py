"""Secure aggregation: the sum of many vectors, and no single one of them. Pure functions on numbers and bytes."""
