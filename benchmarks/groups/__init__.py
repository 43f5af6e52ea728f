"""The groups of benchmarks that are one module each; ``run`` measures a group and returns its rows or its tables.

`benchmarks.groups.fresh_process` is shared by ``coldstart`` and ``memory``; `benchmarks.groups.dicom` belongs to
``pipeline``.
"""
