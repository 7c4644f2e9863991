"""The user's own services under the emergency stop: one link each for the five of the guide.

A link turns what a service's object emits into telemetry, and a stop command into its ``emergency_stop``.
Needs nothing of the server; the two links of twikit need the extra ``httpx``.
"""
