"""What a store holds, in one small dictionary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.engine.ledger import Ledger
from tomodask.io.movie_table import gain_text
from tomodask.io.ome_zarr import array_folder
from tomodask.io.series import images_folder, open_series
from tomodask.model import history_of, measured_observations, views_of
from tomodask.model.ctf_facts import ctf_facts

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["info"]


def info(path: str | Path) -> dict[str, Any]:
    """Describe a tilt series store.

    Parameters
    ----------
    path
        Folder of the store.

    Returns
    -------
    dict
        Plain values, ready for JSON: views, sizes (x, y, z order in names), A, degrees, e/A^2;
        alignments; complete tomograms; and what is begun but not complete.

    Raises
    ------
    StoreError
        If there is no store.
    """
    tree = open_series(path)
    series = views_of(tree)
    angles = series["tilt_angle"].values
    included = series["included"].values
    values, counts = np.unique(angles, return_counts=True)
    path = Path(path).expanduser().resolve()
    result: dict[str, Any] = {
        "name": tree.name,
        "path": str(path),
        "views": series.sizes["tilt"],
        "excluded_views": np.flatnonzero(~included).tolist(),
        "image_size_xy": [series.sizes["x"], series.sizes["y"]] if "images" in series else None,
        "halves": "even" in series,
        "pixel_size_angstrom": series.attrs["pixel_size"],
        "tilt_range_degree": [float(angles.min()), float(angles.max())],
        "duplicate_angles_degree": values[counts > 1].tolist(),
        "tilt_axis_angle_degree": series.attrs.get("tilt_axis_angle"),
        "total_dose": _total_dose(series),
        "reasons": _reasons(series),
        **_states(tree),
        "alignments": {},
        "landmarks": {},
        "tomograms": {},
        "incomplete": [],
    }
    if "alignments" in tree.children:
        for name, node in tree["alignments"].children.items():
            alignment = node.to_dataset()
            entry: dict[str, Any] = {
                "method": alignment.attrs.get("method"),
                "tilt_axis_angle_degree": round(float(alignment["tilt_axis_angle"].median()), 3),
                "largest_shift_angstrom": round(
                    float(np.hypot(alignment["shift_x"], alignment["shift_y"]).max()), 2
                ),
            }
            if "score" in alignment:
                entry["mean_score"] = round(float(np.nanmean(alignment["score"].values)), 4)
            for quality in ("mean_residual", "leave_out_error", "error"):
                if quality in alignment.attrs:
                    entry[f"{quality}_angstrom"] = round(float(alignment.attrs[quality]), 3)
            if "thickness" in alignment:
                entry["thickness_angstrom"] = round(float(alignment["thickness"]), 1)
            entry["local"] = "local_shift_u" in alignment
            result["alignments"][name] = entry
    if "landmarks" in tree.children:
        for name, node in tree["landmarks"].children.items():
            table = node.to_dataset()
            result["landmarks"][name] = {
                "in_use": int(table["chosen"].sum()),
                "points": int(measured_observations(table).sum()),
                "edits": len(history_of(table)),
            }
    ledger = Ledger(images_folder(path))
    if "movies" in tree.children and not ledger.complete and ledger.done():
        result["incomplete"].append(
            f"motion: {len(ledger.done())} of {result['views']} movies finished ('tomodask motion')"
        )
    for folder in sorted((path / "tomograms").glob("*/full")):
        name = folder.parent.name
        ledger = Ledger(array_folder(folder, 0))
        if not ledger.complete:
            result["incomplete"].append(f"tomogram {name}: {len(ledger.done())} parts finished")
            continue
        levels = tree[f"tomograms/{name}/full"].children
        volume = levels["0"]["tomogram"]
        plan = ledger.plan() or {}
        result["tomograms"][name] = {
            "shape_xyz": [volume.sizes[axis] for axis in "xyz"],
            "voxel_size_angstrom": plan.get("voxel_size"),
            "levels": len(levels),
            "method": plan.get("step"),
        }
    return result


def _reasons(series: xr.Dataset) -> dict[str, str]:
    """Return why views are excluded, by their number as text."""
    if "reason" not in series.coords:
        return {}
    reasons = series["reason"].values
    return {
        str(view): str(reasons[view])
        for view in np.flatnonzero(~series["included"].values)
        if reasons[view]
    }


def _states(tree: xr.DataTree) -> dict[str, Any]:
    """Return what was made of the movies and the images, where it was."""
    states: dict[str, Any] = {"series_included": True, "series_reason": ""}
    if "movies" in tree.children:
        movies = tree["movies"].to_dataset()
        states["movies"] = {
            "count": int(np.count_nonzero(movies["movie"].values != "")),
            "missing": np.flatnonzero(movies["movie"].values == "").tolist(),
            "gain": gain_text(movies.attrs),
            "rendering": dict(movies.attrs.get("rendering", {})),
        }
    if "motion" in tree.children and "tilt_series" in tree.children:
        motion = tree["motion"].to_dataset()
        drift = np.hypot(motion["shift_y"].values, motion["shift_x"].values)
        drift = drift[views_of(tree)["included"].values]
        local = motion["field"].notnull() if "field" in motion else np.zeros((1, 1))
        states["motion"] = {
            "patches_yx": motion.attrs["provenance"].get("patches"),
            "views_with_local_field": int(np.any(local, axis=tuple(range(1, local.ndim))).sum()),
            "dose_weighted": motion.attrs["provenance"].get("voltage") is not None,
            "failed": np.flatnonzero(motion["failed"].values != "").tolist(),
            "not_supported": np.flatnonzero(
                ~motion["supported"].values & (motion["failed"].values == "")
            ).tolist(),
            "repaired_pixels": int(motion["repaired"].values.sum()),
            "largest_shift_angstrom": round(float(np.nanmax(drift, initial=0.0)), 2),
        }
    if "cleaning" in tree.children:
        states["cleaning"] = {"pixels": tree["cleaning"].sizes["edit"]}
    if "gold" in tree.children:
        states["gold"] = {"discs": tree["gold"].sizes["edit"]}
    if "ctf" in tree.children:
        states["ctf"] = ctf_facts(tree["ctf"].to_dataset())
    if "curation" in tree.children:
        attributes = tree["curation"].attrs
        states["series_included"] = bool(attributes.get("series_included", True))
        states["series_reason"] = str(attributes.get("series_reason", ""))
    return states


def _total_dose(series: Any) -> float | None:
    if "exposure" not in series.coords:
        return None
    return round(float(series["exposure"].sum()), 3)
