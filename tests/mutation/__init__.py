"""Mutation testing: `make mutants` changes the core in small ways and asks whether a test notices."""
