"""Each PDU and command set that a sender writes or reads, compared with pynetdicom's; and nonsense of every kind."""

from __future__ import annotations

import random
from io import BytesIO

import pytest
from pynetdicom.dsutils import decode
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ, A_RELEASE_RP, A_RELEASE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import A_ASSOCIATE
from instance_files import EXPLICIT, IMPLICIT, MR, REPORT, SEGMENTATION
from scripted_peers import response

from lnfast.node.transport import requestor_pdu as pdu
