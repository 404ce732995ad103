"""Values: what the floors above pass to each other. No I/O, no behaviour beyond validation."""
