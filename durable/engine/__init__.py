"""The pure engine: one event in, commands out. It knows no clock, no I/O and no database."""
