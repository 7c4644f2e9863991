"""Names of the headers that a dead letter carries beside those of the record that was refused."""

from typing import Final

HEADER: Final = "__connect.errors."
#: The refused record's own timestamp, ms. Kafka Connect has no header for it; a redrive needs it.
SOURCE_TIMESTAMP: Final = "estop.source.timestamp"
#: Of a value that was too large for the topic of letters, which has its beginning only.
BYTES_BEFORE_CUT: Final = "estop.bytes_before_cut"
SHA256_BEFORE_CUT: Final = "estop.sha256_before_cut"
