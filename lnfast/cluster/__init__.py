"""Run a cohort of studies on a Ray cluster: on one machine or on many, each study once, none lost.

    packages.py    Ray and pyarrow, which the extra ``cluster`` installs
    inputs.py      STUDIES -> entries: files, folders and manifests
    manifest.py    a CSV or Parquet file of studies
    messages.py    what the driver and its workers send each other
    completion.py  whether a study folder is there already, of the same study, model, engine and rules
    rows.py        a report -> a row for the study and one for each node
    tables.py      studies and nodes as Parquet and CSV, without keeping them in memory
    worker.py      one resident engine in a process of the cluster
    placement.py   the folder that all machines share: its lock, and what a worker can see of it
    protocol.py    what the schedule needs of a cluster
    ray_cluster.py the cluster, by Ray
    slots.py       one place for a worker: what it runs, and whether it may
    election.py    which engine the workers must have
    schedule.py    which worker runs which study, and what happens when one dies
    run.py         all of it, in order

Workers are plain actors and not a pool of Ray Data, which runs blocks of rows: when a block kills its worker, Ray Data
starts the worker and the block again and again, or gives up the job, and does not say which row it was. Here every
study is followed by its index; docs/cluster.md has what was tried.
"""

from __future__ import annotations

from lnfast.cluster.run import CohortRequest, CohortSummary, Display, run_cohort

__all__ = ["CohortRequest", "CohortSummary", "Display", "run_cohort"]
