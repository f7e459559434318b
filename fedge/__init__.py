"""fedge: privacy-first federated learning for the edge."""

__version__ = "0.1.0"
