"""Several processes on the same two ports: a parent (`supervisor`), and the workers it starts (`worker`).

Each worker is a whole daemon. They share nothing but the ports and the engine; devices and publishers may
reach any of them. A socketpair connects each with the parent (`messages`).
"""
