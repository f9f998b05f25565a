# ruff: noqa: E501 - one work a line reads better than titles in pieces
"""The works a paper cites when it used medseg: one checked entry each, found by DOI, by package or by key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from medseg.reporting import bibliography_classical as classical

_DOI = re.compile(r"(?:doi:\s*|https?://(?:dx\.)?doi\.org/)(10\.\d{4,9}/[^\s,;]+)", re.IGNORECASE)
_LINK = re.compile(r"https?://[^\s,;<>\"']+")
# Braces and backslashes of a foreign text would end its field
_LATEX = {"&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "$": r"\$", "{": "", "}": "", "\\": "/"}


@dataclass(frozen=True)
class Entry:
    """One work: its BibTeX key and kind, who wrote it, its title, year and whatever places it (journal, volume, pages …)."""

    key: str
    kind: str
    author: str
    title: str
    year: int | None = None
    doi: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where the work is found on the web, or ""."""
        return f"https://doi.org/{self.doi}" if self.doi else self.fields.get("url", "")

    @property
    def text(self) -> str:
        """The work as a list of references names it.

        >>> entry_of("numpy").text[:57]
        'Harris CR et al. Array programming with NumPy. Nature 585'
        """
        fields = self.fields
        place = fields.get("journal") or fields.get("booktitle") or fields.get("publisher") or fields.get("note", "")
        numbers = " ".join(part for part in (fields.get("volume", ""), fields.get("pages", "")) if part)
        numbers = numbers.replace(" ", ":").replace("--", "–")
        who = _short_authors(self.author)
        parts = [f"{who}. {self.title}." if who else f"{self.title}.", " ".join(part for part in (place, numbers) if part)]
        text = " ".join(part for part in parts if part).strip()
        text += f" ({self.year})" if self.year else ""
        return text + (f". doi:{self.doi}" if self.doi else "")

    def bibtex(self) -> str:
        """Return the BibTeX entry; capitals of the title are kept by braces."""
        values: dict[str, str] = {"author": self.author, "title": self.title}
        values |= {"year": str(self.year)} if self.year else {}
        values |= dict(self.fields)
        values |= {"doi": self.doi} if self.doi else {}
        shown = {name: value if name in ("doi", "url") else _escaped(value) for name, value in values.items() if value}
        shown["title"] = "{" + shown["title"] + "}"  # capitals stay
        lines = [f"  {name} = {{{value}}}" for name, value in shown.items()]
        return f"@{self.kind}{{{self.key},\n" + ",\n".join(lines) + "\n}\n"


def _article(key: str, author: str, title: str, journal: str, year: int, doi: str, **fields: str) -> Entry:
    return Entry(key, "article", author, title, year, doi, {"journal": journal, **fields})


def _paper(key: str, author: str, title: str, booktitle: str, year: int, doi: str, **fields: str) -> Entry:
    return Entry(key, "inproceedings", author, title, year, doi, {"booktitle": booktitle, **fields})


# fmt: off
PACKAGES: dict[str, Entry] = {
    "numpy": _article("harris2020numpy", "Harris, Charles R. and others", "Array programming with NumPy", "Nature", 2020,
                      "10.1038/s41586-020-2649-2", volume="585", pages="357--362"),
    "scipy": _article("virtanen2020scipy", "Virtanen, Pauli and others", "SciPy 1.0: fundamental algorithms for scientific computing in Python",
                      "Nature Methods", 2020, "10.1038/s41592-019-0686-2", volume="17", pages="261--272"),
    "SimpleITK": _article("lowekamp2013simpleitk", "Lowekamp, Bradley C. and Chen, David T. and Ibáñez, Luis and Blezek, Daniel",
                          "The design of SimpleITK", "Frontiers in Neuroinformatics", 2013, "10.3389/fninf.2013.00045", volume="7", pages="45"),
    "highdicom": _article("bridge2022highdicom", "Bridge, Christopher P. and others",
                          "Highdicom: a Python library for standardized encoding of image annotations and machine learning model outputs in "
                          "pathology and radiology", "Journal of Digital Imaging", 2022, "10.1007/s10278-022-00683-y", volume="35",
                          pages="1719--1737"),
    "numba": _paper("lam2015numba", "Lam, Siu Kwan and Pitrou, Antoine and Seibert, Stanley", "Numba: a LLVM-based Python JIT compiler",
                    "Proceedings of the Second Workshop on the LLVM Compiler Infrastructure in HPC", 2015, "10.1145/2833157.2833162"),
    "torch": _paper("ansel2024pytorch", "Ansel, Jason and others",
                    "PyTorch 2: faster machine learning through dynamic Python bytecode transformation and graph compilation",
                    "Proceedings of the 29th ACM International Conference on Architectural Support for Programming Languages and Operating "
                    "Systems", 2024, "10.1145/3620665.3640366", volume="2", pages="929--947"),
    "monai": Entry("cardoso2022monai", "misc", "Cardoso, M. Jorge and others", "MONAI: an open-source framework for deep learning in healthcare",
                   2022, "10.48550/arXiv.2211.02701", {"note": "arXiv:2211.02701"}),
    "pydicom": Entry("pydicom", "misc", "Mason, Darcy and others", "pydicom: an open source DICOM library", None, "",
                     {"url": "https://github.com/pydicom/pydicom"}),
    "nibabel": Entry("nibabel", "misc", "Brett, Matthew and others", "NiBabel: access to neuroimaging file formats", None, "",
                     {"url": "https://github.com/nipy/nibabel"}),
}

WORKS: tuple[Entry, ...] = (
    _article("zwanenburg2020ibsi", "Zwanenburg, Alex and others",
             "The Image Biomarker Standardization Initiative: standardized quantitative radiomics for high-throughput image-based phenotyping",
             "Radiology", 2020, "10.1148/radiol.2020191145", volume="295", pages="328--338"),
    _article("isensee2021nnunet", "Isensee, Fabian and Jaeger, Paul F. and Kohl, Simon A. A. and Petersen, Jens and Maier-Hein, Klaus H.",
             "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", "Nature Methods", 2021,
             "10.1038/s41592-020-01008-z", volume="18", pages="203--211"),
    _paper("reinhold2019normalization", "Reinhold, Jacob C. and Dewey, Blake E. and Carass, Aaron and Prince, Jerry L.",
           "Evaluating the impact of intensity normalization on MR image synthesis", "Proceedings of SPIE, Medical Imaging", 2019,
           "10.1117/12.2513089", volume="10949"),
    _article("marr1980edge", "Marr, David and Hildreth, Ellen", "Theory of edge detection",
             "Proceedings of the Royal Society of London B", 1980, "10.1098/rspb.1980.0020", volume="207", pages="187--217"),
    _article("huang1979median", "Huang, Thomas S. and Yang, George J. and Tang, Gregory Y.", "A fast two-dimensional median filtering algorithm",
             "IEEE Transactions on Acoustics, Speech, and Signal Processing", 1979, "10.1109/TASSP.1979.1163188", volume="27", pages="13--18"),
    _article("sezgin2004thresholding", "Sezgin, Mehmet and Sankur, Bülent",
             "Survey over image thresholding techniques and quantitative performance evaluation", "Journal of Electronic Imaging", 2004,
             "10.1117/1.1631315", volume="13", pages="146--165"),
    _article("otsu1979threshold", "Otsu, Nobuyuki", "A threshold selection method from gray-level histograms",
             "IEEE Transactions on Systems, Man, and Cybernetics", 1979, "10.1109/TSMC.1979.4310076", volume="9", pages="62--66"),
    _article("yoo2002itk", "Yoo, Terry S. and others",
             "Engineering and algorithm design for an image processing API: a technical report on ITK, the Insight Toolkit",
             "Studies in Health Technology and Informatics", 2002, "10.3233/978-1-60750-929-5-586", volume="85", pages="586--592"),
    _article("meyer1994watershed", "Meyer, Fernand", "Topographic distance and watershed lines", "Signal Processing", 1994,
             "10.1016/0165-1684(94)90060-4", volume="38", pages="113--125"),
    _article("meyer1990morphological", "Meyer, Fernand and Beucher, Serge", "Morphological segmentation",
             "Journal of Visual Communication and Image Representation", 1990, "10.1016/1047-3203(90)90014-M", volume="1", pages="21--46"),
    _article("aubrey2014muscle", "Aubrey, J. and others", "Measurement of skeletal muscle radiation attenuation and basis of its biological variation",
             "Acta Physiologica", 2014, "10.1111/apha.12224", volume="210", pages="489--497"),
    _article("mitsiopoulos1998cadaver", "Mitsiopoulos, N. and others",
             "Cadaver validation of skeletal muscle measurement by magnetic resonance imaging and computerized tomography",
             "Journal of Applied Physiology", 1998, "10.1152/jappl.1998.85.1.115", volume="85", pages="115--122"),
    _paper("cicek2016unet", "Çiçek, Özgün and Abdulkadir, Ahmed and Lienkamp, Soeren S. and Brox, Thomas and Ronneberger, Olaf",
           "3D U-Net: learning dense volumetric segmentation from sparse annotation",
           "Medical Image Computing and Computer-Assisted Intervention (MICCAI)", 2016, "10.1007/978-3-319-46723-8_49", pages="424--432"),
    _article("rosenfeld1966sequential", "Rosenfeld, Azriel and Pfaltz, John L.", "Sequential operations in digital picture processing",
             "Journal of the ACM", 1966, "10.1145/321356.321357", volume="13", pages="471--494"),
    Entry("soille2003morphological", "book", "Soille, Pierre", "Morphological Image Analysis: Principles and Applications", 2003,
          "10.1007/978-3-662-05088-0", {"publisher": "Springer"}),
    _article("jacobs2018auction", "Jacobs, Matt and Merkurjev, Ekaterina and Esedoğlu, Selim", "Auction dynamics: a volume constrained MBO scheme",
             "Journal of Computational Physics", 2018, "10.1016/j.jcp.2017.10.036", volume="354", pages="288--310"),
    _article("eisenhauer2009recist", "Eisenhauer, E. A. and others",
             "New response evaluation criteria in solid tumours: revised RECIST guideline (version 1.1)", "European Journal of Cancer", 2009,
             "10.1016/j.ejca.2008.10.026", volume="45", pages="228--247"),
    _article("nikolov2021nsd", "Nikolov, Stanislav and others",
             "Clinically applicable segmentation of head and neck anatomy for radiotherapy: deep learning algorithm development and validation "
             "study", "Journal of Medical Internet Research", 2021, "10.2196/26151", volume="23", pages="e26151"),
    _article("maierhein2024metrics", "Maier-Hein, Lena and others", "Metrics reloaded: recommendations for image analysis validation",
             "Nature Methods", 2024, "10.1038/s41592-023-02151-z", volume="21", pages="195--212"),
    _article("bland1999agreement", "Bland, J. Martin and Altman, Douglas G.", "Measuring agreement in method comparison studies",
             "Statistical Methods in Medical Research", 1999, "10.1177/096228029900800204", volume="8", pages="135--160"),
    _article("mcgraw1996icc", "McGraw, Kenneth O. and Wong, S. P.", "Forming inferences about some intraclass correlation coefficients",
             "Psychological Methods", 1996, "10.1037/1082-989X.1.1.30", volume="1", pages="30--46"),
    _article("tejani2024claim", "Tejani, Ali S. and others", "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 update",
             "Radiology: Artificial Intelligence", 2024, "10.1148/ryai.240300", volume="6", pages="e240300"),
    _article("wang2019deepigeos", "Wang, Guotai and others",
             "DeepIGeoS: a deep interactive geodesic framework for medical image segmentation",
             "IEEE Transactions on Pattern Analysis and Machine Intelligence", 2019, "10.1109/TPAMI.2018.2840695", volume="41", pages="1559--1572"),
    Entry("he2024vista3d", "misc", "He, Yufan and others", "VISTA3D: a unified segmentation foundation model for 3D medical imaging", 2024,
          "10.48550/arXiv.2406.05285", {"note": "arXiv:2406.05285"}),
    Entry("vallieres2015sts", "misc", "Vallières, Martin and Freeman, Carolyn R. and Skamene, Sonia R. and El Naqa, Issam",
          "A radiomics model from joint FDG-PET and MRI texture features for the prediction of lung metastases in soft-tissue sarcomas of the "
          "extremities", 2015, "10.7937/K9/TCIA.2015.7GO2GSKS", {"note": "Data set, The Cancer Imaging Archive"}),
)
# fmt: on

WORKS += tuple(_article(*about, volume=volume, pages=pages) for *about, volume, pages in classical.ARTICLES)  # type: ignore[arg-type]
WORKS += tuple(_paper(*about, pages=pages) for *about, pages in classical.PAPERS)  # type: ignore[arg-type]
WORKS += tuple(
    Entry(key, "book", author, title, year, doi, {"publisher": house}) for key, author, title, house, year, doi in classical.BOOKS
)

_BY_DOI = {entry.doi.lower(): entry for entry in (*PACKAGES.values(), *WORKS) if entry.doi}
_BY_KEY = {entry.key: entry for entry in (*PACKAGES.values(), *WORKS)}


def entry_of(name: str) -> Entry | None:
    """Return the entry of a package ("numpy"), of a key ("harris2020numpy") or of a DOI; None where there is none.

    >>> entry_of("10.1145/321356.321357").key
    'rosenfeld1966sequential'
    """
    return PACKAGES.get(name) or _BY_KEY.get(name) or _BY_DOI.get(name.lower().removeprefix("doi:"))


def entries_in(text: str) -> tuple[Entry, ...]:
    """Return the works that a reference names: one entry a DOI, else the whole text as one work of kind misc.

    >>> [entry.key for entry in entries_in("doi:10.1109/TSMC.1979.4310076; MONAI, doi:10.48550/arXiv.2211.02701")]
    ['otsu1979threshold', 'cardoso2022monai']
    """
    dois = [doi.rstrip(".") for doi in _DOI.findall(text)]
    if dois:
        return tuple(entry_of(doi) or Entry(_key(doi), "misc", "", f"doi:{doi}", None, doi) for doi in dict.fromkeys(dois))
    text = " ".join(text.split())
    if not text:
        return ()
    link = _LINK.search(text)
    return (Entry(_key(text), "misc", "", text, None, "", {"url": link.group().rstrip(".")} if link else {}),)


def bibtex(entries: Iterable[Entry]) -> str:
    """Return a BibTeX file with each entry once, in the order given."""
    unique = {entry.key: entry for entry in entries}
    return "\n".join(entry.bibtex() for entry in unique.values())


def _key(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", text.lower())[:40] or "work"


def _short_authors(author: str) -> str:
    """The first author with initials; the second where there are two, else et al."""
    if not author:
        return ""
    people = author.split(" and ")
    names = [_initials(person) for person in people if person != "others"]
    if len(people) == 1:
        return names[0]
    return f"{names[0]} & {names[1]}" if len(people) == 2 and len(names) == 2 else f"{names[0]} et al"


def _initials(person: str) -> str:
    family, _, given = person.partition(", ")
    return f"{family} {''.join(part[0] for part in given.split())}".strip()


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
