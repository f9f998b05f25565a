"""Advice on what is found by classical methods: (effect, action)."""

from __future__ import annotations

CLASSICAL: dict[str, tuple[str, str]] = {}
