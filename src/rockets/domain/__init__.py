"""What is true: messages, rockets and ledgers; nothing in here does I/O."""
