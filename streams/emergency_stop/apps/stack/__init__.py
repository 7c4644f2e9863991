"""The whole system on one machine: ``estop dev`` keeps it up, ``estop demo`` runs a story on it."""
