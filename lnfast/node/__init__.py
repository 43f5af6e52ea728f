"""``lnfast node``: the box beside the scanner. It receives exams, runs the engine on them and sends the results.

config.py     node.toml, every problem of it found; toml_table.py checks its keys
ledger.py     exams, results and jobs in SQLite; ledger_schema.py has the tables, ledger_rows.py what is read of them
spool.py      the folders: instances are stored durably, results placed whole
recovery.py   what a start does with what a kill, a damaged ledger or a power cut left behind
retention.py  what may be deleted, and when
check.py      is this configuration sound, and would it work on this machine now
"""
