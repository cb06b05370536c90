"""What became of every record, counted, and how the application hears of it."""
