"""The daemon's own code on a virtual clock, with everything around it simulated from one seed."""
