"""Holds a server to the protocol: the scenes of spec/transcripts, played against it.

A scene is data (`localful_ws.conform.scenes`). `localful_ws.conform.play` goes through its steps on a
`Stage`, which is a server and everybody who talks to it; `localful_ws.conform.live` is a stage on streams.
"""
