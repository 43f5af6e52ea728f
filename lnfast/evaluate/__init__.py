"""A prediction against a truth: every measure of the clinical method, as its paper defines it.

    inputs/         folders, label maps, reports and groups -> pairs of files
    measures/       the measures: arrays and nodes in, numbers out
    evaluation.py   both of the above, study by study
    output/         metrics.json, the tables, the figures and the page
    extra.py        scipy, statsmodels, scikit-learn, matplotlib: the one way to them

Which node is which, and Dice, are `lnfast.matching`'s.
"""
