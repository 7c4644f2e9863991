"""What people write in a grammar of its own: rules in CEL, calendars."""
