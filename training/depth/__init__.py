"""Depth search: at which depth of the trunk, and with which pooling, each branch leaves it."""
