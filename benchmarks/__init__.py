"""Speed against named peers, with the answers compared first: ``python -m benchmarks``.

    network      one inference: every backend and precision here, against PyTorch with the same weights
    pipeline     file on disk to report on disk, per stage, against the pipeline that a researcher writes, and MONAI's
    latency      the same of one engine, study after study: p50, p95, p99
    throughput   a queue of studies, with and without overlap
    coldstart    one study from the start of a process; memory: and the most memory that such a process holds
    scaling      how each stage grows with voxels, nodes and studies
    kernels      each compiled kernel, and all of them, against the libraries that are used for the same work
    measurement  not speed: each short-axis rule against nodes that are exactly known

    onnx_torch   model.onnx as a torch module       agreement    are two answers the same?
    peers        the researcher's pipeline          timing       interleaved runs, percentiles
    monai_peer   MONAI's                            processes    from their start, both sides'
    reference    same weights, same studies         engines      which of ours are measured
    studies      as files                           rows         what is kept as JSON
    grids        that several groups need           shown        rows for people
    environment  what the numbers were taken on     settings     what was asked for
    compare      of two files: who lost ground?     table        of files, as Markdown
    plots        as pictures

Nothing is timed before both sides have answered the same study, and a peer that answers differently gets no ratio.
"""
