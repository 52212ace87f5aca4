"""``facet people``: lists people, and corrects and regroups them."""
