"""A prediction against a truth: every measure of the clinical method, as its paper defines it.

    score.py         a number, or why there is none
    distances.py     HD, AVD, MHD of two sets of voxels
    overlap.py       Dice, PPV, TPR, VS and the distances of one subset of nodes of one study
    detection.py     nodes found and missed, by several readings of "found"
    patient.py       N0 or N1: sensitivity, specificity, AUC, kappa
    delong.py        the variance of an AUC
    measurement.py   short axis and volume: Bland-Altman, t-test, correlation
    groups.py        scanners and subsets: ANOVA and LSD
    reading.py       folders of label maps and of run outputs, and which file belongs to which
    labelmap.py      one label map: ids or a mask
    scanners.py      which scanner a study is of
    runs.py          what the reports beside the predictions say
    evaluation.py    the stages above, study by study
    metrics.py       metrics.json, and in definitions.py the words that stand in it
    tables.py        cases.csv, nodes.csv
    figures.py       correlation, Bland-Altman, ROC
    paper.py         the paper's figures, to stand beside
    page/            evaluation.html
    writing.py       DIR/, whole or not at all
    extra.py         scipy, statsmodels, scikit-learn, matplotlib: the one way to them

Which node is which, and Dice, are `lnfast.matching`'s.
"""
