"""Replicated streams: what a Raft group's log says of its streams, applied alike on every replica.

In the walk:  a tap of the group's leader → proposals → the group → replica, on every node → commits → store; the leader acks
              when its replica has admitted what the group has committed.
Guarantee:    a stream changes by entries of its group's log alone; time is in the entry, not in the replica.
Not here:     consensus (raft), routes (cluster).

    ops         what an entry of a stream group says, as bytes
    replica     one group on this node: its entries, applied
    proposals   what the leader puts into the log
"""
