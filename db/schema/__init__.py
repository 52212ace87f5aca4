"""Tables, views and privileges, and the migrations that bring a database to them."""
