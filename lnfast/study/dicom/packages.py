"""The packages that DICOM needs: pydicom to read what is not plain, its decoders, highdicom to write."""

from __future__ import annotations

from lnfast.optional import Package

PYDICOM = Package("reading this DICOM file", "pydicom", ("pydicom",), "dicom")
HIGHDICOM = Package("writing seg.dcm and sr.dcm", "highdicom", ("highdicom",), "dicom")
# What pydicom needs for the pixels of each compression; RLE it decodes by itself.
DECODERS: dict[str, tuple[Package, ...]] = {
    "RLE": (),
    "JPEG-LS": (Package("decoding JPEG-LS", "jpeg_ls", ("pyjpegls",), "dicom"),),
    "JPEG 2000": (
        Package("decoding JPEG 2000", "pylibjpeg", ("pylibjpeg",), "dicom"),
        Package("decoding JPEG 2000", "openjpeg", ("pylibjpeg-openjpeg",), "dicom"),
    ),
}
