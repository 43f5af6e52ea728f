"""DICOM on the network, for the receiver and the client alike: connections, TLS, PDUs and messages.

contexts.py        SOP classes and transfer syntaxes of each service
sockets.py         a connection on which every wait has an end
link.py            a connection that this side opens
tls.py, tls_trial.py   TLS, and whether a certificate and its key fit
pdu.py             what both roles write and read of the upper layer protocol
acceptor_pdu.py, requestor_pdu.py   what each role does
messages.py        command sets of DIMSE
dataset_head.py    the UIDs at the beginning of a data set
"""
