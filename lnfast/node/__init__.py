"""``lnfast node``: a service beside the scanner, which receives exams by DICOM, runs them, and sends the results.

settings.py, config.py   node.toml, with every problem of it found; toml_table.py checks its keys
ledger.py     exams, results and jobs in SQLite; ledger_file.py opens it, ledger_rows.py reads it,
              ledger_transactions.py has the steps of what is changed, ledger_upkeep.py what is seldom changed
spool.py      the folders: instances are stored durably, results placed whole
"""
