"""Tests of `localful_ws.server.http`."""
