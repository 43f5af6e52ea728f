"""How other systems call a program on the images of one examination.

mercure.py   a processing module of mercure
packages.py  an application package as MONAI Deploy runs it: two folders
"""
