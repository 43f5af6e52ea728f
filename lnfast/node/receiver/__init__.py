"""The receiver: a Storage and Verification SCP that stores every instance durably before it says so.

receiver.py      the listening socket, the threads, the drain
acceptor.py      where connections wait until their first PDU is whole
access.py        who may send
association.py   one association, from the answer to its request until its end
session.py       what an association brings, told to the spool and to the exams
instance.py      one instance, straight to the disk
seldom.py        log lines that a peer can cause as often as it likes
"""
