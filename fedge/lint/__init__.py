"""Unsound privacy claims, found by reading: of a run, of an Opacus script, of a Flower app. Nothing is executed."""
