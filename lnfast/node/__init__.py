"""``lnfast node``: a service beside the scanner, which receives exams by DICOM, runs them, and sends the results.

    config/      0   node.toml
    monitor/     0   logs, metrics, health
    ledger/      0   what was decided about each exam, in SQLite
    spool/       1   instances and results on the disk
    transport/   1   connections, TLS, PDUs and messages
    client/      2   to a peer
    exams/       2   when an exam is whole, what is run, what is released
    receiver/    3   from the scanner to the spool
    watch/       3   exams from a folder
    outbox/      3   results on their way to the targets
    service.py   4   puts the rooms together; process.py is the process around it, observation.py what it shows,
                     upkeep.py what is done now and then
    check.py     4   what is wrong with a configuration on this machine; status.py: what a spool holds;
                     conformance.py: the tables of docs/conformance.md

A module imports from its own room and from lower ones only.
"""
