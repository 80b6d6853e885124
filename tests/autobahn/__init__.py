"""Autobahn's fuzzing client against an echo server made of a transport alone (`make autobahn`)."""
