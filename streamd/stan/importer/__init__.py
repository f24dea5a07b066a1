"""Reading what a stopped nats-streaming-server left on disk: `streamd import stan`.

Guarantee:  nothing is written into the directory, and what can't be read is refused by name, never left out in silence.
Not here:   a running server of either kind, SQL stores, writing into a streamd store.

    wire      protobuf's fields
    records   the record files: version, checksums, torn ends
    slices    the messages of one channel
    tables    server.dat, clients.dat, subs.dat
    sealed    messages encrypted at rest
    bolt      the Raft log of a clustered server, as a file
    raft      the same, as clients and subscriptions
    in_use    whether a server still has the directory
    model     what was found
    store     a directory, from the outside in
    report    what was found, for people and as JSON, with checksums

Formats: nats-streaming-server 0.25.6, stores/filestore.go, stores/cryptostore.go, server/raft_log.go, server/snapshot.go.
"""
