"""The database: connections, migrations and the only SQL of the program."""
