"""Tables, views and privileges, and the migrations that create them."""
