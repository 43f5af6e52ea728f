"""The outbox: results on their way to the targets, sent again until they arrived or a person must look.

sender.py     a thread for each target
delivery.py   the files of a job, all or none
implicit.py   a file in the default transfer syntax, for a target that takes no other
backoff.py    when something that failed is tried again
"""
