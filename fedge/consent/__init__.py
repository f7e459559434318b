"""Permission: who allowed what, for which purpose, from when to when; judged per record, closed by default."""
