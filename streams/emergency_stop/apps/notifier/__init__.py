"""``estop notifier``: tells people what the coordinator wants them to hear, and carries out the last resort."""
