"""Reports: what the verified log says, for people who do not read logs."""
