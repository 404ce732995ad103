"""Side by side, in one run on one machine: durable, DBOS, and what the database itself can do."""
