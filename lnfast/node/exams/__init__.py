"""Exams: when one is whole, what is run, what is released, refused, or shown to a person.

reception.py   one exam: what arrived, by which associations, how these ended
arrivals.py    all exams that are being received
verdict.py     what a refusal means for an exam that may still be arriving
decisions.py   what becomes of an exam that is due
runs.py        the run on the resident engine; the result, stored and not yet released
worker.py      the one thread that does all this
drift.py       every so often the same exam again in FP32
"""
