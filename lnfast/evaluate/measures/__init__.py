"""The paper's measures: nodes, values and masks in, numbers out; no files.

values.py       a value, or why there is none; mean and SD
subsets.py      all, suspicious and largest nodes
distances.py    HD, AVD, MHD of two sets of voxels
overlap.py      Dice, PPV, TPR, VS and the distances of one subset of nodes of one study
detection.py    nodes detected and missed, by several definitions
patient.py      N0 or N1: sensitivity, specificity, AUC, kappa
delong.py       the variance of an AUC
agreement.py    short axis and volume: Bland-Altman, t-test, correlation
groups.py       scanners and subsets: ANOVA and LSD
"""
