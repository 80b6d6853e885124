"""Fuzzing: bytes that nobody would write, against whatever reads what others send; see README.md."""
