"""Depth search: the depth and pooling at which each branch leaves the trunk best."""
