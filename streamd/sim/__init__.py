"""A cluster in one process, under a clock, a network and disks that a seed decides on.

In the walk:  above everything it runs: the real engine, store, raft and streams, given another time, network and disk.
Guarantee:    one seed is one history, in every process; what breaks a promise is told with the seed that shows it.
Not here:     real sockets, real power cuts, real processes: other tests have them.

    clock        virtual time, and each node's view of it
    network      frames and calls between nodes, with all that can happen to them
    disk         a machine's directory: the real store, whose commits take a virtual while and which a crash cuts short
    ledger       what lies on the disks: shadows of every log of a group, compared as they are written
    checker      what must hold: terms, logs, commits, acks
    faults       when which fault comes
    raft_node    a node that has nothing but groups
    raft_world   such nodes under load and faults
    planted      bugs that must be caught
    command      `streamd sim`
"""
