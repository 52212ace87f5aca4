"""Queries of the page as the reader role, one module an area: from a connection and values to frozen dataclasses."""
