"""Modal dialogs: nobody is there to close them, so each is written down and answered by the test, or fails it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PySide6 import QtWidgets

from standins.errors import failures
from standins.pythonqt import EXTRA, read

FILE_QUESTIONS = ("getOpenFileName", "getOpenFileNames", "getSaveFileName", "getExistingDirectory")
MESSAGE_QUESTIONS = ("information", "warning", "critical", "question", "about")
INPUT_QUESTIONS = ("getText", "getInt", "getDouble", "getItem", "getMultiLineText")


@dataclass
class Shown:
    """One dialog as the user would see it."""

    kind: str
    title: str
    text: str
    answer: Any = None


class Dialogs:
    """What was shown, in order; `answer` queues what the user would choose. Messages without an answer are closed with OK
    when `allowed`, and fail the test otherwise."""

    def __init__(self) -> None:
        self.shown: list[Shown] = []
        self._answers: list[Any] = []
        self.allowed = False

    def answer(self, *answers: Any) -> None:
        """Queues answers: a standard button, a path, a text; a callable gets the dialog and returns the answer."""
        self._answers += answers
        self.allowed = True

    @property
    def texts(self) -> list[str]:
        """The texts shown so far."""
        return [entry.text for entry in self.shown]

    def show(self, kind: str, title: str, text: str, item: Any, otherwise: Any) -> Any:
        """Writes the dialog down and answers it."""
        entry = Shown(kind, title, text)
        self.shown.append(entry)
        if self._answers:
            given = self._answers.pop(0)
            entry.answer = given(item) if callable(given) and not isinstance(given, type) else given
        else:
            entry.answer = otherwise
            if not self.allowed:
                failures.add(f"a dialog nobody expected was opened ({kind}): {title}: {text}")
        return entry.answer

    def clear(self) -> None:
        self.shown.clear()
        self._answers.clear()
        self.allowed = False


dialogs = Dialogs()


def _text_of(item: QtWidgets.QDialog) -> str:
    if isinstance(item, QtWidgets.QMessageBox):
        return " ".join(part for part in (item.text, item.informativeText, item.detailedText) if part)
    return " ".join(label.text for label in item.findChildren(QtWidgets.QLabel))


def _modal(item: Any) -> Any:
    if not isinstance(item, QtWidgets.QDialog):
        return None

    def run() -> Any:
        kind = str(item.className())
        if isinstance(item, QtWidgets.QFileDialog):
            chosen = dialogs.show(kind, item.windowTitle, "", item, None)
            if chosen:
                read(item, "selectFile")(str(chosen))
            return int(bool(chosen))
        answer = dialogs.show(kind, item.windowTitle, _text_of(item), item, QtWidgets.QMessageBox.StandardButton.Ok)
        if isinstance(item, QtWidgets.QMessageBox):
            return answer
        accepted = answer in (True, 1, QtWidgets.QMessageBox.StandardButton.Ok, QtWidgets.QMessageBox.StandardButton.Yes)
        read(item, "accept" if accepted else "reject")()
        return int(accepted)

    return run


def _message(kind: str) -> Any:
    def ask(_parent: Any, title: str, text: str, *_more: Any) -> Any:
        usual = QtWidgets.QMessageBox.StandardButton.Yes if kind == "question" else QtWidgets.QMessageBox.StandardButton.Ok
        return dialogs.show(f"QMessageBox.{kind}", title, text, None, usual)

    return staticmethod(ask)


def _path(kind: str) -> Any:
    # PythonQt gives the path alone, PySide6 would give it with the filter
    def ask(_parent: Any = None, caption: str = "", directory: str = "", *_more: Any) -> Any:
        chosen = dialogs.show(f"QFileDialog.{kind}", caption, directory, None, None)
        many = kind == "getOpenFileNames"
        return ([str(path) for path in chosen] if chosen else []) if many else (str(chosen) if chosen else "")

    return staticmethod(ask)


def _input(kind: str) -> Any:
    def ask(_parent: Any, title: str, label: str, *_more: Any) -> Any:
        return dialogs.show(f"QInputDialog.{kind}", title, label, None, None)

    return staticmethod(ask)


def install() -> Dialogs:
    """Takes over every way to ask the user something."""
    EXTRA["exec"] = EXTRA["exec_"] = _modal
    for kind in MESSAGE_QUESTIONS:
        setattr(QtWidgets.QMessageBox, kind, _message(kind))
    for kind in FILE_QUESTIONS:
        setattr(QtWidgets.QFileDialog, kind, _path(kind))
    for kind in INPUT_QUESTIONS:
        setattr(QtWidgets.QInputDialog, kind, _input(kind))
    return dialogs
