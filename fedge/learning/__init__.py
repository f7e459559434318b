"""Learning: what one client computes from permitted records, and how results combine.

The only room that knows torch.
"""
