"""Custom rules: CEL over window aggregates, compiled to programs over columns.

CEL's own library parses and type-checks (``environment``); what it checked (``checked_expr``) becomes aggregates
(``aggregates``) and a stack program over their values (``compiler``). ``language`` is the front door.
"""
