"""What an operator does about privacy: accounts' keys changed and erased, rows found, opened and deleted."""
