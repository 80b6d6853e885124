"""The operator's console: what it can ask (`routes`), and the overview it is given (`overview`).

Its pages are in `localful_ws.web`. docs/operating.md, "The console", says what an operator sees.
"""
