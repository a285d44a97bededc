"""Slices to rows: the database, its schema and queries, the load, and prices for those who read them."""
