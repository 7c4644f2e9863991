"""What people write in a grammar of its own: rules in CEL over window aggregates, and calendars.

CEL's own library parses and type-checks (``environment``); what it checked (``checked_expr``) becomes aggregates
(``aggregates``) and a stack program over their values (``compiler``). ``language`` is the front door.

``calendar`` reads schedules and quiet hours, ``definitions`` whole triggers with all of it checked.
"""
