"""What an evaluation reads.

pairing.py       folders of label maps and of run outputs, and which prediction belongs to which truth
labelmap.py      one label map: ids or a mask
find_segmentations.py  DICOM Segmentations in a folder, and the studies that they are of
placement.py     a Segmentation on the grid of the other side; both sides of a study
scanners.py      the scanner or the group of a study
run_reports.py   the reports beside the predictions
"""
