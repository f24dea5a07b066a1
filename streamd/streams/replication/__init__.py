"""Replicated streams: what a Raft group's log says of its streams, applied alike on every replica.

In the walk:  a tap of the group's leader → proposals → the group → replica, on every node → commits → store; the leader acks
              when its replica has admitted what the group has committed.
Guarantee:    a stream changes by entries of its group's log alone; time is in the entry, not in the replica.
Not here:     consensus (raft), routes (cluster).

    node                                  this server as a member; below it, what follows from the meta group
      metagroup, joining, bringing          which servers and streams there are, and how both come in
      assigned, mover, answers, membership  streams made, moved and removed; members of groups
      api, infos, view, reads               what clients ask for, and are shown
        serving, keeping, handing             who answers what, and what becomes of it while nobody can
    replica                               one group on this node: its entries, applied to
      holding, channels                     its streams, and those of NATS Streaming
      proposals, ops, lately                what its leader puts into the log
      leading, passing, standing            who serves, and what comes while nobody does
      transfer, sending, pieces             its state, to a replica that is far behind
        replacing                             what that goes into
    survivor, setting_aside               stores that are left, and stores that can't be trusted
"""
