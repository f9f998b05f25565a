"""The error tree: exit codes, and the builtin errors a user would catch."""

from __future__ import annotations

import inspect

import pytest

from medseg.core import errors

ALL = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, errors.MedsegError)]


@pytest.mark.parametrize("error", ALL)
def test_every_error_ends_a_program_with_its_code(error):
    codes = {"InputError": 3, "GeometryError": 3, "SegmentError": 3, "MethodError": 2, "PipelineError": 4}
    codes |= {"ModelError": 4, "OutputError": 5}
    family = [codes[base.__name__] for base in error.__mro__ if base.__name__ in codes]
    expected = family[0] if family else {"MedsegError": 1, "MissingDependencyError": 4}[error.__name__]
    assert error.exit_code == expected


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.GeometryError, ValueError),
        (errors.ParameterError, ValueError),
        (errors.UnknownMethodError, LookupError),
        (errors.UnknownSegmentError, LookupError),
        (errors.OutputExistsError, FileExistsError),
        (errors.MissingDependencyError, ImportError),
    ],
)
def test_errors_are_also_what_a_user_would_catch(error, builtin):
    assert issubclass(error, builtin)
    assert str(error("the message")) == "the message"


def test_the_tree_in_the_docstring_names_every_class():
    assert all(error.__name__ in (errors.__doc__ or "") for error in ALL)
