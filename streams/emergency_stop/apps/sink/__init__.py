"""``estop sink``: every topic into ClickHouse, each record once; what is no record into dead letters."""
