"""The command that tells what a store holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

import tomodask as td
from tomodask.cli.app import app
from tomodask.errors import ParameterError
from tomodask.view.ctf_words import ctf_rows


@app.command
def info(*series: Path, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Tell what a store holds; of several stores, one line each.

    Parameters
    ----------
    series
        The stores.
    as_json
        As JSON, for scripts.
    """
    if not series:
        raise ParameterError("give a store, e.g. TS_01.zarr")
    values = [td.info(path) for path in series]
    if len(values) == 1:
        print_info(values[0], as_json=as_json)
    elif as_json:
        print(json.dumps(values, indent=1))
    else:
        width = max(len(of["name"]) for of in values)
        for of in values:
            taken = of["views"] - len(of["excluded_views"])
            state = "" if of["series_included"] else f"excluded: {of['series_reason']}"
            print(f"{of['name']:<{width}}  {taken:3d} of {of['views']:3d} views  {state}".rstrip())


def print_info(values: dict[str, Any], *, as_json: bool = False) -> None:
    """Print what a store holds, for people or as JSON."""
    if as_json:
        print(json.dumps(values, indent=1))
        return
    low, high = values["tilt_range_degree"]
    axis = values["tilt_axis_angle_degree"]
    size = values["image_size_xy"]
    images = f"of {size[0]} x {size[1]}" if size else "as movies, not corrected yet"
    halves = ", with halves" if values["halves"] else ""
    excluded = values["excluded_views"]
    print(f"series     {values['name']} ({values['path']})")
    print(f"views      {values['views']} {images}, {values['pixel_size_angstrom']:g} A{halves}")
    turned = "not recorded" if axis is None else f"{axis:.2f}"
    print(f"tilts      {low:.4g} to {high:.4g} deg, axis {turned}")
    if excluded:
        print(f"excluded   {', '.join(map(str, excluded))} (from 0)")
    for view, reason in values["reasons"].items():
        print(f"           {view}: {reason}")
    if not values["series_included"]:
        print(f"series     is excluded as a whole: {values['series_reason']}")
    if "movies" in values:
        print(f"gain       {values['movies']['gain']}")
    if "motion" in values:
        motion = values["motion"]
        unsure = motion["not_supported"]
        words = f"; no motion found in views {', '.join(map(str, unsure))}" if unsure else ""
        repaired = motion["repaired_pixels"]
        print(f"motion     up to {motion['largest_shift_angstrom']:g} A{words}")
        if motion["patches_yx"] is not None:
            y, x = motion["patches_yx"]
            count = motion["views_with_local_field"]
            print(f"           local field in {count} views ({x}x{y} patches)")
        if motion["dose_weighted"]:
            print("           frames are weighted by dose")
        print(f"           {repaired} hot and dead pixels mended in the frames")
    if "cleaning" in values:
        print(f"cleaning   {values['cleaning']['pixels']} pixels mended when images are read")
    for name, entry in values["alignments"].items():
        said = {
            "mean_score": "mean score {:g}",
            "mean_residual_angstrom": "mean residual {:.2f} A",
            "error_angstrom": "error to be expected {:.2f} A",
            "thickness_angstrom": "specimen {:.0f} A thick",
        }
        told = [text.format(entry[key]) for key, text in said.items() if key in entry]
        told += ["local"] * entry["local"]
        axis = f"axis {entry['tilt_axis_angle_degree']:g} deg"
        print(f"alignment  {name}: {', '.join([axis, *told])}")
    if "ctf" in values:
        for number, row in enumerate(ctf_rows(values["ctf"])):
            print(f"{'' if number else 'ctf':<10} {': '.join(row)}")
    for name, entry in values["landmarks"].items():
        edits = f", {entry['edits']} edits by hand" if entry["edits"] else ""
        print(f"landmarks  {name}: {entry['in_use']} in use, {entry['points']} points{edits}")
    if "gold" in values:
        print(f"gold       {values['gold']['discs']} discs erased when a tomogram is made")
    for name, entry in values["tomograms"].items():
        size = " x ".join(map(str, entry["shape_xyz"]))
        print(f"tomogram   {name}: {size} (x, y, z), {entry['voxel_size_angstrom']:g} A")
    for line in values["incomplete"]:
        print(f"incomplete {line}; give the same command again to finish it")
