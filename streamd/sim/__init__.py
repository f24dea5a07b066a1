"""A cluster in one process, under a clock, a network and disks that a seed decides on.

In the walk:  above everything it runs: the real engine, store, raft and streams, given another time, network and disk.
Guarantee:    one seed is one history, in every process; what breaks a promise is told with the seed that shows it.
Not here:     real sockets, real power cuts, real processes: other tests have them.

    clock        virtual time, and each node's view of it
    network      frames, calls and streams between nodes, with all that can happen to them
    disk         a machine's directory: the real store, whose commits take a virtual while and which a crash cuts short
    machine      a place where processes live one after another
    faults       when which fault comes
    world        what every world has
    ledger       what lies on the disks of a group: compared as it is written, committed and led
    watched      a host of groups that the ledger looks at
    violation    what a broken promise is told as

  groups alone
    rest, chain, raft_node, raft_world
    planted      bugs that must be caught

  whole servers
    routes       the engine's routes over simulated connections
    full_node    engine, store, groups and streams put together
    clients      publishers, a consumer, an operator
    history      what they were promised
    full_world

    seeds        many of them
    command      `streamd sim`
"""
