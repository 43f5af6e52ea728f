"""The ``definitions`` of metrics.json: every number travels with its definition."""

from __future__ import annotations

from lnfast.evaluate.measures.values import CONFIDENCE

DEFINITIONS = {
    "subsets": "all: every node. suspicious: nodes over the limit, on each side by its own measurement. largest: one "
    "node of each side, the greatest short axis, ties by volume.",
    "read_as": "what label maps were taken for. ids: each value a node. components: a mask, and its 26-connected "
    "components are the nodes. one node: a mask of one component. rules.read_as: auto takes a file of one value for a "
    "mask and any other for ids, each file by itself; ids and mask take all files of both sides alike.",
    "predictions_by": "model and engine as the report.json beside the predictions say, and of how many studies; a list "
    "where they do not agree; null without reports. What they ran by is not what is evaluated by: see rules.",
    "segmentation": "Per study, the voxels of a subset as one mask; then mean and SD (n - 1) over the studies in which "
    "the measure is defined (n). Both sides empty: undefined. One side empty: 0 where there is a denominator, "
    "distances undefined.",
    "segmentation_of_matched_nodes": "The same measures of single nodes: each true node of the subset against the "
    "prediction that shares most voxels with it; mean and SD over the nodes that a prediction touches.",
    "dice": "2 TP / (2 TP + FP + FN), voxels",
    "ppv": "TP / (TP + FP), voxels",
    "tpr": "TP / (TP + FN), voxels",
    "vs": "1 - |FN - FP| / (2 TP + FP + FN), voxels",
    "hd_mm": "max(h(A, B), h(B, A)), h the greatest distance from a voxel centre to the other set's nearest; all "
    "voxels of the mask, mm",
    "avd_mm": "max(d(A, B), d(B, A)), d the average of the same distances; other tools take the mean of the two",
    "mhd": "sqrt((mx - my)^T S^-1 (mx - my)), S = (nx Sx + ny Sy) / (nx + ny), Sx over n; no unit; undefined where "
    "both sides are flat in one direction",
    "subset_comparison": "Of each measure, the values that segmentation averages, all against suspicious against "
    "largest: f, p_value: one-way ANOVA; lsd: t-tests with the pooled variance, uncorrected, of which the "
    "paper prints all against suspicious (Dice 0.009, VS 0.046). The three subsets are of the same patients and share "
    "nodes, so their values are not independent, as both tests want them to be: the paper ignored that, and so does "
    "this.",
    "detection": "tp: true nodes that a prediction of the subset touches (one voxel); fn: those that none touches; fp: "
    "predictions of the subset that touch no true node of the subset; precision tp / (tp + fp), recall tp / (tp + fn). "
    "One prediction over two true nodes: tp 2, fp 0. Two predictions over one true node: tp 1, fp 0. "
    "So tp counts true nodes and fp predictions: precision adds different things, for the paper has one tp for both "
    "measures, and its interval treats tp + fp as trials all the same. by_prediction counts predictions alone.",
    "detection.by_prediction": "right: predictions that touch a true node; wrong = fp; precision right / (right + "
    "wrong). One prediction over two true nodes: right 1. Two predictions over one true node: right 2. f1 with the "
    "recall above.",
    "detection.one_to_one": "each node in one pair at most, as many touching pairs as can be made. One prediction over "
    "two true nodes: tp 1, fn 1. Two predictions over one true node: tp 1, fp 1.",
    "detection.iou": "one_to_one with pairs whose intersection over union is at least 0.1 or 0.5; of equal counts the "
    "greatest sum",
    "detection.touching_any_size": "tp: true nodes of the subset that any prediction touches; fp: predictions of the "
    "subset that touch no true node of any size",
    "intervals": f"{CONFIDENCE:.0%}. Shares: Clopper-Pearson. Nodes of one patient are counted as independent "
    "of each other, which they are not: intervals over nodes come out too narrow.",
    "patient": "N1 where a node is suspicious, on each side by its own measurement",
    "patient.auc": "of the call N0 or N1; low and high: exact binomial of AUC x n (MedCalc), which ignores how many "
    "patients each class has; null where one has fewer than two; delong_low, delong_high: DeLong",
    "patient.auc_short_axis": "of the largest predicted short axis, 0 without a prediction; DeLong",
    "patient.kappa": "Cohen's, unweighted, asymptotic interval, cut at 1",
    "measurement": "true nodes and for each the prediction that shares most voxels, where one touches it; bias: mean "
    "of prediction - truth; loa: bias -+ 1.96 SD; p_value: paired t-test; pearson: interval by Fisher's z. The subset "
    "is the true node's. Nodes of one patient are counted as independent of each other.",
    "groups": "patient: as above, of the studies of one group. Else one value a study: f, p_value: one-way ANOVA; "
    "lsd: t-tests with the pooled variance, uncorrected. error: mean of prediction - truth over the matched nodes of a "
    "study. largest_true: the largest true node's.",
}
