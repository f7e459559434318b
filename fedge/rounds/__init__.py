"""The heart: one round from order to release, by the two parties that share only messages."""
