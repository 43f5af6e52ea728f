"""Other implementations of the same work, with the same weights.

onnx_to_torch     model.onnx as a torch module        setup             weights and input that are proven equal
pytorch_pipeline  a researcher's pipeline             monai_pipeline    MONAI's
pipeline          what the pipelines share            nodes             volume and box of a node
inference         one inference, on CPU and GPU       script            a pipeline in a process of its own
dicom             readers of a folder of DICOM files
"""
