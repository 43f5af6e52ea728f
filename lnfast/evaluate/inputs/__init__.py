"""What an evaluation reads.

pairing.py       folders of label maps and of run outputs, and which prediction belongs to which truth
labelmap.py      one label map: ids or a mask
scanners.py      the scanner or the group of a study
run_reports.py   the reports beside the predictions
"""
