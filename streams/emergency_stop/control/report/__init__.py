"""``estop report``: the analysts' views, asked once and shown in the terminal or as a page."""
