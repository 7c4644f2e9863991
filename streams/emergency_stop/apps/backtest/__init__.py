"""Backtests: what the production detector makes of the telemetry that ClickHouse keeps.

Theory of operation. Telemetry is read in slices of time, as columns, and becomes the very batches that the decoder
makes of a fetch (``telemetry.py``). Each partition number has a detector; what it gets between two moments at which
order matters (a tick, a change of triggers) is one batch per topic (``replay.py``). Values over all accounts are put
together behind them, slice by slice (``run.py``). No Python object exists per event between the database and a hit.

What order there was. Within a topic's partition it is the log's: offsets. Between topics nothing records it: a record
is taken to have been read at its timestamp, or at that of the latest record before it in its partition. So hits of
conditions over one topic are those of the detector, byte for byte; hits of rules over several topics, of silence, and
around a change of triggers are those of a detector that kept up.
"""
