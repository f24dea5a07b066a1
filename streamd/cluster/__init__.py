"""The cluster: connections to other servers, and what goes over them between nodes.

Place in the walk: `mesh.py` listens and dials, each connection is a `Route`, the engine carries messages and interest over
it; `net.py` is what nodes say to each other. Source: the route protocol as nats-server 2.15.2 speaks it.
"""
