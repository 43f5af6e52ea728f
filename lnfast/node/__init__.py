"""A service beside the scanner: it receives exams by DICOM, runs them, and sends the results to a PACS."""
