"""The DICOM client: echo and store, to any peer, files byte for byte as they lie on the disk.

client.py          an association, from its request to its end
answers.py         what a peer can answer, and whether it helps to send again
instance_file.py   a file that is to be sent
collection.py      which files are to be sent
transfer.py        any number of files, in as few associations as their kinds allow
"""
