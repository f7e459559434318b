"""Secure aggregation between server and clients: the server learns the sum of their updates, and no single one."""
