"""Tests of the engine in Redis, against real servers."""
