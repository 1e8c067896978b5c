"""Contrast transfer in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ctf_rows", "handedness_words", "micrometres"]


def micrometres(angstrom: float, error: float | None = None) -> str:
    """Return a length in micrometres, to 1 nm, with its error where there is one."""
    bar = "" if error is None else f" ± {error / 1e4:.3f}"
    return f"{angstrom / 1e4:.3f}{bar}"


def handedness_words(facts: Mapping[str, Any]) -> str:
    """Say which way the defocus goes.

    Parameters
    ----------
    facts
        From :func:`tomodask.model.ctf_facts.ctf_facts`.
    """
    hand = facts["handedness"]
    if not hand:
        return "handedness unknown"
    sure = facts.get("handedness_confidence")
    confidence = "" if sure is None else f" (confidence {sure:.2f})"
    way = "grows" if hand > 0 else "falls"
    return f"handedness {hand:+d}{confidence}: defocus {way} with height"


def ctf_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a table of contrast transfer comes to, as rows of (name, value).

    Parameters
    ----------
    facts
        From :func:`tomodask.model.ctf_facts.ctf_facts`.
    """
    trusted = f"{facts['trusted_views']} of {facts['views']} to be trusted"
    rows = [("views", f"{trusted} ({facts['method']})")]
    if "defocus_range_angstrom" in facts:
        low, high = facts["defocus_range_angstrom"]
        rows.append(("defocus", f"{low / 1e4:.2f} to {high / 1e4:.2f} um"))
    if "resolution_range_angstrom" in facts:
        best, worst = facts["resolution_range_angstrom"]
        rows.append(("rings", f"followed to {best:.1f} A at best, {worst:.1f} A at worst"))
    rows.append(("handedness", handedness_words(facts).removeprefix("handedness ")))
    rows += [("warning", text) for text in facts["warnings"]]
    return rows
