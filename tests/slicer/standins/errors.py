"""What went wrong where nobody looks: in slots, observers, VTK's own messages and Qt's warnings; read by the autouse fixture."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any

import vtk
from PySide6 import QtCore


class Failures:
    """A list of sentences; a test that leaves one behind fails. `expect` takes out those that a test wants to happen."""

    def __init__(self) -> None:
        self._sentences: list[str] = []

    def add(self, sentence: str) -> None:
        self._sentences.append(sentence)

    def add_exception(self, where: str, error: BaseException) -> None:
        """An exception that Slicer would only print to its console."""
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        sys.stderr.write(text)
        self._sentences.append(f"{where}: {type(error).__name__}: {error}\n{text}")

    @property
    def seen(self) -> tuple[str, ...]:
        """The sentences so far."""
        return tuple(self._sentences)

    def take(self) -> list[str]:
        """All sentences so far; the list is empty afterwards."""
        sentences, self._sentences = self._sentences, []
        return sentences

    def expect(self, text: str) -> None:
        """Takes out what holds `text`; fails when nothing does, so that an expected error is really there."""
        kept = [sentence for sentence in self._sentences if text not in sentence]
        assert len(kept) < len(self._sentences), f"no error with {text!r} was seen, only {self._sentences}"
        self._sentences = kept


failures = Failures()


def guarded(function: Callable[..., Any], where: str) -> Callable[..., Any]:
    """The function, whose exceptions are noted and end there, as PythonQt does with slots."""

    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:  # noqa: BLE001 every error of a slot ends here in Slicer too
            failures.add_exception(where, error)
            return None

    return call


def _unhandled(_kind: type[BaseException], error: BaseException, _trace: Any) -> None:
    failures.add_exception("exception in a callback", error)


def _qt_message(kind: QtCore.QtMsgType, _context: Any, message: str) -> None:
    sys.stderr.write(f"Qt: {message}\n")
    harmless = ("This plugin does not support", "propagateSizeHints")
    told = kind not in (QtCore.QtMsgType.QtDebugMsg, QtCore.QtMsgType.QtInfoMsg)
    if told and not any(text in message for text in harmless):
        failures.add(f"Qt: {message}")


class _VtkMessages:
    """Observes VTK's output window: errors and warnings of C++ are sentences too."""

    def __init__(self) -> None:
        def noted(kind: str) -> Callable[..., None]:
            def note(_caller: Any, _event: str, text: str) -> None:
                failures.add(f"VTK {kind}: {text}")

            note.CallDataType = vtk.VTK_STRING  # type: ignore[attr-defined]
            return note

        self.window = vtk.vtkOutputWindow.GetInstance()
        for event, kind in (("ErrorEvent", "error"), ("WarningEvent", "warning")):
            self.window.AddObserver(event, noted(kind))


_watching: list[Any] = []


def install() -> None:
    """Starts to watch; a second call changes nothing."""
    if not _watching:
        _watching.append(_VtkMessages())
        QtCore.qInstallMessageHandler(_qt_message)
    sys.excepthook = _unhandled
