"""DICOM on the network: which services, with whom, over which connections; the receiver and the client of targets."""
