"""Tests of the sans-IO core: tables, and a Hypothesis state machine."""
