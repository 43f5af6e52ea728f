"""The folder that an evaluation writes.

metrics.py       metrics.json, and in definitions.py the words that stand in it
csv_tables.py    cases.csv, nodes.csv
figures.py       correlation, Bland-Altman, ROC
paper.py         the paper's figures, shown beside the measured ones
page/            evaluation.html
folder.py        DIR/, whole or not at all
"""
