"""What every test of this repository shares: nothing but the plugin that users get as well.

`durable_postgres`, `durable_postgres_server` and `durable_sqlite` come from `durable_testing.plugin`
through its entry point. A room's own fixtures stand in that room's own conftest.
"""
