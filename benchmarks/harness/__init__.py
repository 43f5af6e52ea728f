"""What every group stands on.

settings     the options of one call                  environment  the machine and its software
studies      phantoms as files                        grids        grids that several groups need
engines      the engines of lnfast that are measured  logits       logits without a network
reference    FP32 on ONNX Runtime                     agreement    do two answers agree?
timing       interleaved runs and percentiles         processes    a process from its start to its report
rows         rows of results and their JSON
"""
