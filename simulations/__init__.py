"""Scenarios that tell a story and assert it."""
