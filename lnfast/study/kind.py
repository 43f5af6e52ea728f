"""Evidence that a file is no high-b diffusion-weighted image: a table of words, and where each of them counts.

An ADC map shows nodes dark where a DWI shows them bright, a perfusion map or a T2 image shows other tissues bright, and
the ``.bval`` beside any of them may still say 800. The evidence is the file's name, the header's text fields, and what
the ``.json`` beside it calls the image (`lnfast.study.json_sidecar`). The voxels are no evidence: a renamed map without
these texts is **not detected** here, because no sign of it in the values is reliable. Computed b-value images have a
background of exact zeros too, the scale of a DWI is arbitrary and may lie where ADC values do (0 to 3000 in
1e-6 mm2/s), and only a model can tell the order of bright and dark tissues.

To add a kind, add a row to `_KINDS`. The words are those that scanners and converters write: ImageType of Siemens
(``DERIVED PRIMARY DIFFUSION FA``, ``ASL RCBF``, ``P PHASE``), Philips (``M SE M SE``, ``PERFUSION FFE``), GE and Canon
as in dcm2niix's test data, the terms of DICOM C.8.13.3.1, the postfixes of dcm2niix, and the suffixes of BIDS and FSL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache

from lnfast.errors import StudyError
from lnfast.study.bvalues import BRule
from lnfast.study.json_sidecar import Sidecar
from lnfast.study.named import plain, says_b0
from lnfast.study.sidecar_files import stem


@dataclass(frozen=True)
class _Kind:
    """A kind of image that is refused, and the words that identify it.

    Before the search every text is converted to lower case, and characters that are neither letter nor digit become
    ``_``. A word is a regular expression for a whole word, or for several joined by ``_``; blanks separate words.

    Attributes:
        name: of the kind, for the message.
        words: count anywhere in any text.
        last: count at the end of a name or description: ``x_FA`` is a map, ``FA_x`` may be of a patient.
        named: count at the end of a file name only; a scanner's ``2 seg`` are segments.
        otherwise: count in any text but the header's, if it names no diffusion: ``asl_2d`` is ASL, ``dwi_asl`` may not
            be.
        described: as ``otherwise``, but not in file names, where T1 is also the first of two visits.
        types: count in ImageType.
        types_otherwise: count in an ImageType without DIFFUSION.
        code: of the refusal.
    """

    name: str
    words: str = ""
    last: str = ""
    named: str = ""
    otherwise: str = ""
    described: str = ""
    types: str = ""
    types_otherwise: str = ""
    code: str = "not-dwi"


_KINDS = (
    _Kind(
        "an ADC map",
        # With what scanners and converters put before it (dwi_ADC, eADC, regADC) and after it (ADCmap, the letter or
        # number of a second series of one name: ADCa, ADC0001), but not within a hexadecimal name (3adc71) or a word.
        words=r"(?:dwi|dti|diff|trace|avg|mean|reg|iso|[desr])?_?adc(?:_?maps?|[a-z])?\d*"
        r" \w*apparent_?diffusion\w* (?:average|avg|ave)_dc diffusion_coeff\w*"
        r" \w*diffusions?koeffi\w* coeff?icien\w*(?:_de|_di)?_diff?us\w*",
        types=r"[ed]?adc",
        code="adc-map",
    ),
    _Kind(
        "a map of diffusion anisotropy",
        words=r"(?:fractional|relative)_?aniso\w* anisotropy volume_ratio\w* fa_?maps? (?:rel|frac)_?aniso"
        r" col(?:ou?r)?_?fa fa_?col(?:ou?r)?(?:_?map)? cfa (?:desc|param)_fa fa_(?:ax_|cor_|sag_|tra_)?dti",
        last="fa",
        types=r"fa col_?fa cfa ra vr aniso\w*",
    ),
    _Kind(
        "another map of diffusion",
        words=r"(?:mean|axial|radial|parallel|perpendicular)_?diffusivity diffusivity \w*kurtosis\w* eigen\w*"
        r" (?:desc|param)_(?:md|ad|rd|mk|ak|rk) exp(?:onential)?_?att\w* (?:perfusion|perf|pseudo)_?frac\w*"
        r" pseudo_?diffusion\w* d_?star ivim_(?:f|d|dp) tensor_(?:fa|md|ad|rd)",
        last=r"(?:dti|dki|dwi|diff|tensor)(?:_\w+)?_(?:md|ad|rd|mo|mk|ak|rk|l[123]|v[123]|e[123]v?|sse|ra|vr)"
        r" [a-z0-9]*(?:mddw|diff)\w*_tensor",
        types=r"md ad rd mk ak rk kurtosis eigen\w* diffusivity exp(?:onential)? attenuation tensor(?!_b0)",
    ),
    _Kind(
        "a field map",
        words=r"(?:\w+_)?field_?map\w* b[01]_?maps? phase_?diff\d? b0_?rf fmap",
        last=r"magnitude[12] sub_\w+_phase[12]",
        described=r"gre_field\w* shim\w*",
        types=r"field_?map\w* b0_map",
    ),
    _Kind(
        "a b = 0 image",  # `says_b0` finds the b-values in a text
        words="tensor_b0 nodif b_?zero",
        last="s0 sbref",
        types=r"(?:tensor_)?b0(?!_map)",
    ),
    _Kind(
        "a phase image",
        words=r"part_phase phase_(?:image|map)s? pha(?:se)?_images? ph_?mag unwrapped",
        last=r"(?<!rev_)(?<!reverse_)(?<!reversed_)(?<!opposite_)phase",
        named="ph pha",
        types=r"p phase velocity flow_encoded",
    ),
    _Kind(
        "a real or imaginary image",
        words=r"part_(?:real|imag)",
        last="imaginary",
        named="real imag",
        types=r"r i real imaginary",
    ),
    _Kind(
        "a perfusion image or map",
        words=r"(?:rel|r|c|n|q|mean|ave|avg|corr)?_?(?:cbf|cbv|mtt|ttp|tmax|pbf|pbv|rbf)(?:_?maps?)? k_?trans"
        r" kep ve_map iauc\w* perfusion_?weighted\w* perfusion_?maps? pwi wash_?(?:in|out) m0_?scan [pvc]*asl_\w*cbf",
        last="asl m0scan",
        otherwise=r"perfus\w* perf \w*asl dsc dce gbp pbp dyn(?:amic)?s?",
        described="m0",
        types=r"asl perfusion rel_?cb[fv] [rqc]?cb[fv] mtt ttp tmax ktrans kep iauc subtraction ttest t_test z_score",
    ),
    _Kind(
        "a T1, T2 or proton density image",
        words=r"(?:t1|t2|t2star|t1rho|r1|r2|r2star|pd)_?maps?",
        last=r"u?t1w t2w t2starw pdw flair inplanet[12] mp2rage unit1 angio",
        otherwise=r"t[12]_?w(?:i|eighted)? flair\w* mp?rage mp2rage haste vibe thrive lava\w* flash tirm swi"
        r" t[12]_(?:tse|fse|ffe|se|vibe|tfe|space|haste|blade|propeller|fs|stir|star|dixon|spair|spir"
        r"|tra|ax|axial|sag|sagittal|cor|coronal|obl)\w*",
        described=r"t1 t2 t2star pdw? proton_density stir tse fse space m?dixon twist tof mra angio bssfp trufi\w*"
        r" fiesta cube tfe dess ciss swan",
        types=r"(?:t1|t2|t2_star|r2|r2_star|t1_rho)_maps?",
        types_otherwise=r"t1 t2 t2_star stir proton_density fluid_attenuated swi dixon water fat in_phase out_phase"
        r" opp_phase angio\w* tof cine post_contrast pre_contrast",
    ),
    _Kind(
        "a localizer",
        otherwise=r"locali[sz]er scouts? survey 3_?plane\w* planscan",
        described="loc",
        types=r"locali[sz]er scout",
    ),
    _Kind(
        "a functional or spectroscopic image",
        last=r"bold cine",
        otherwise=r"\w*bold \w*fmri\w* rest(?:ing)?_state spectro\w* elasto\w* temperature cine",
        described="mrsi? csi mre",
        types=r"fmri bold spectroscopy metabolite\w* temperature tagging m_mode realtime stress elasto\w*",
    ),
    _Kind(
        "a projection, not slices",
        words=r"mip min_?ip max_?ip mnip mips mip_images projection\w*",
        types=r"mip min_?ip max_?ip mnip projection\w*",
    ),
    _Kind(
        "a mask or label map",
        words=r"segmentations? label_?maps? brain_?mask value_node_id",  # the last: what lnfast itself writes
        last=r"masks? labels? dseg",
        named=r"segm? rois? roi\d+ ground_?truth",
        types=r"segmentation mask label\w* binary",
    ),
    _Kind(
        "an image with inverted greys",
        words=r"inverted\w* invert",
        types=r"inverted\w* invert",
    ),
    _Kind(
        "no image of the patient",
        words=r"screen_?(?:save|shot|capture)s? histogram\w*",
        types=r"screen_?(?:save|shot)s? csa_report histogram graphics? dose_info other_report std_deviation",
    ),
    _Kind("a computed map", last=r"\w*maps? parametric"),
)
_OTHER_MODALITIES = {"CT", "PT", "PET", "NM", "US", "XA", "RF", "CR", "DX", "DR", "MG", "OCT", "OPT", "SEG", "SC", "SR"}
_OTHER_MODALITIES |= {"RTDOSE", "RTSTRUCT", "RTIMAGE", "RTPLAN", "REG", "PR", "KO", "RWV", "DOC", "MRS", "SM"}

# Generous, because a match only keeps the words of `otherwise` from counting.
_DIFFUSION = re.compile(
    r"dwi|dti|dki|dsi|dmri|diff|difus|trace|ivim|hardi|resolve|zoom|bval|(?:^|_)(?:dw|b_?\d{2,4}(?!\d))"
)
# Suffixes that converters add behind the last word: number and letter of a series, echo, coil, trigger time, crop.
_POSTFIXES = re.compile(r"(?:_(?:\d+|[a-c]|[ceit]\d+|crop\d*|eq\d*|tilt\d*))+$")


def refuse_other_kinds(
    name: str, header_text: str, sidecars: tuple[Sidecar, ...], rule: BRule, *, single: bool
) -> None:
    """Refuse a file whose own texts say that it is no high-b diffusion-weighted image.

    Args:
        name: the file's name.
        header_text: the header's text fields; they may name a patient, so no message quotes them.
        sidecars: of the file.
        rule: which b-values are taken; where it includes b = 0, an image may be called so.
        single: the file has one volume. Of several volumes the ``.bval`` identifies the b-value better than a name.

    Raises:
        StudyError: ``adc-map``, ``not-dwi``.
    """
    takes_b0 = rule.low <= 0

    def refuse(kind: _Kind | None, evidence: str) -> None:
        if kind and not (kind is _B0 and takes_b0):
            raise StudyError(
                kind.code, f"is {kind.name} ({evidence}), wanted a high-b diffusion-weighted image; give that series"
            )

    own = plain(stem(name)).removesuffix("_0000")
    refuse(_kind_of(own, "named"), "its name says so; rename it if that is wrong")
    refuse(_first(plain(header_text), "words"), "its header says so")
    for sidecar in sidecars:
        for field, text in sidecar.types:
            refuse(_kind_of_types(plain(text)), _in_json(field))
        for column, texts in (("described", sidecar.descriptions), ("", sidecar.comments)):
            for field, text in texts:
                words = plain(text)
                refuse(_kind_of(words, column), _in_json(field))
                refuse(_B0 if single and says_b0(words) else None, _in_json(field))
        if sidecar.modality in _OTHER_MODALITIES:
            raise StudyError(
                "not-dwi", f"is of modality {sidecar.modality} by its .json, wanted MR; give the diffusion series"
            )
    refuse(_B0 if single and says_b0(own) else None, "its name says so; rename it if that is wrong")


@lru_cache(maxsize=64)  # the slices of a series say it alike
def code_of_series(types: str, description: str) -> str:
    """Return the code that refuses a DICOM series for its own description; empty where nothing speaks against it.

    Args:
        types: ImageType and FrameType.
        description: of the series, or of its protocol.
    """
    kind = _kind_of_types(plain(types)) or _kind_of(plain(description), "described")
    return kind.code if kind and kind is not _B0 else ""


_B0 = next(kind for kind in _KINDS if kind.name == "a b = 0 image")


def _in_json(field: str) -> str:
    return f"{field} in its .json says so; correct that if it is wrong"


def _kind_of(text: str, column: str) -> _Kind | None:
    """Return the kind of image that a text names, if any.

    Args:
        text: as `plain` returns it.
        column: the words that count beside those of every text: ``named`` for a file name, ``described`` for a
            description.
    """
    end = _POSTFIXES.sub("", text) if column == "named" else text
    searches = [(text, "words"), (end, "last")]
    if column == "named":
        searches.append((end, "named"))
    if not _DIFFUSION.search(text):
        searches.append((text, "otherwise"))
        if column == "described":
            searches.append((text, "described"))
    kinds = (_first(part, words) for part, words in searches)
    return next((kind for kind in kinds if kind), None)


def _kind_of_types(text: str) -> _Kind | None:
    kind = _first(text, "types")
    if kind or re.search(r"(?:^|_)(?:diffusion|tracew?|dwi)(?:_|$)", text):
        return kind
    return _first(text, "types_otherwise")


def _first(text: str, column: str) -> _Kind | None:
    return next((kind for kind, pattern in _patterns(column) if pattern.search(text)), None)


@cache
def _patterns(column: str) -> tuple[tuple[_Kind, re.Pattern[str]], ...]:
    """Return the kinds that have words in a column, each with its pattern."""
    end = "$" if column in ("last", "named") else "(?=_|$)"
    rows = ((kind, str(getattr(kind, column)).split()) for kind in _KINDS)
    return tuple((kind, re.compile(f"(?:^|_)(?:{'|'.join(words)}){end}")) for kind, words in rows if words)
