"""Changes that the page makes, one module an area: from a session, values and the name of the visitor."""
