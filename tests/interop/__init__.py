"""Programs of other people publish at a daemon."""
