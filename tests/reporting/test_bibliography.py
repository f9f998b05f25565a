from __future__ import annotations

import re

import pytest

from medseg.method import catalog
from medseg.reporting.bibliography import PACKAGES, WORKS, bibtex, entries_in, entry_of

ALL = (*PACKAGES.values(), *WORKS)


def test_keys_and_dois_are_unique_and_well_formed():
    assert len({entry.key for entry in ALL}) == len(ALL)
    dois = [entry.doi.lower() for entry in ALL if entry.doi]
    assert len(set(dois)) == len(dois)
    assert all(re.fullmatch(r"10\.\d{4,9}/\S+", doi) for doi in dois)
    assert all(entry.author and entry.title and (entry.year or entry.fields.get("url")) for entry in ALL)


@pytest.mark.parametrize("method", catalog.methods(), ids=lambda method: method.name)
def test_every_doi_of_a_method_has_an_entry(method):
    """A method's source is cited by author and title, never by a bare DOI."""
    for entry in entries_in(method.reference):
        if entry.doi:
            assert entry_of(entry.doi) == entry, f"{entry.doi} of {method.name} is not in the bibliography"


@pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.key)
def test_bibtex_is_balanced_and_names_everything(entry):
    text = entry.bibtex()
    assert text.count("{") == text.count("}")
    assert text.startswith(f"@{entry.kind}{{{entry.key},")
    assert (f"doi = {{{entry.doi}}}" in text) == bool(entry.doi)
    assert f"{{{{{entry.title}}}}}" in text


def test_hostile_references_stay_inside_their_field():
    """Braces, backslashes and signs of LaTeX in a foreign reference neither end the field nor run anything."""
    (entry,) = entries_in(r"\input{secret} } @article{x, 50 % & more_#")
    text = entry.bibtex()
    assert text.count("{") == text.count("}")
    assert r"\input" not in text
    assert r"50 \% \& more\_\#" in text


def test_a_file_holds_each_work_once():
    entries = [*entries_in("doi:10.1109/TSMC.1979.4310076"), *entries_in("https://doi.org/10.1109/TSMC.1979.4310076.")]
    assert bibtex(entries).count("@article") == 1
