"""Speed against named peers, with the answers compared first: ``python -m benchmarks``.

    network      one inference: every backend and precision here, against PyTorch with the same weights
    pipeline     file on disk to report on disk, by stage, against a researcher's pipeline and MONAI's; and reading of
                 a DICOM series against SimpleITK, dcm2niix and pydicom, and writing of SEG and SR
    latency      the same of one engine, study after study: p50, p95, p99
    throughput   a queue of studies, with and without overlap
    coldstart    one study from the start of a process
    memory       the peak memory of such a process
    scaling      how the time of each stage grows with voxels, nodes and studies
    kernels      each compiled kernel, and all of them, against the libraries that are used for the same work
    measurement  not speed: each short-axis rule against nodes whose short axis is exactly known

A module imports from its own subpackage and from lower ones; ``tests/benchmarks/test_benchmark_layers.py`` checks it:

    __main__                            the command line
    groups/  kernels/  measurement/     what is measured; ``run(settings)`` of each group
    peers/   report/                    other implementations of the same work; results for people
    harness/                            settings, studies, timing, agreement of answers, rows of results

Nothing is timed before both sides have answered the same study, and a peer that answers differently gets no ratio.
"""
