"""Names of the headers that a dead letter carries beside those of the record that was refused."""

from typing import Final

HEADER: Final = "__connect.errors."
#: The refused record's own timestamp, ms. Kafka Connect has no header for it; a redrive needs it.
SOURCE_TIMESTAMP: Final = "estop.source.timestamp"
