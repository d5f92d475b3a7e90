"""What stands for pruned records in tests; the journal does not look into it."""

BASE = b"what \x00 became of them \xff"
