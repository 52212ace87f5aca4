"""Tables, views, migrations and queries of Facet's PostgreSQL."""
