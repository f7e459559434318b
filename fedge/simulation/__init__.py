"""Simulated populations: who the clients are, what they hold, what they were permitted."""
