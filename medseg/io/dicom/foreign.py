"""What pydicom and highdicom raise on objects that break the standard; their texts may quote the patient's header."""

from __future__ import annotations

FOREIGN_ERRORS = (
    AttributeError, LookupError, TypeError, ValueError, ArithmeticError, NotImplementedError, OSError, EOFError, RecursionError,
    MemoryError, AssertionError,  # a damaged length asks for gigabytes; pydicom asserts in places
)  # fmt: skip
