"""What is known: one protocol, its implementation on SQLite, SQL in named files."""
