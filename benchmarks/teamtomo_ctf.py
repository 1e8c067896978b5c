"""Contrast transfer by torch-ctf-estimation, on one core; run by an interpreter that has it.

Usage: python teamtomo_ctf.py VIEWS.npy PIXEL_SIZE

The views are (view, y, x), y up. What is printed is JSON: the CPU seconds, and for each view the
defocus along both principal directions at the image's centre, A, and the direction of the first,
degrees. It fits a defocus that changes linearly over the view, and is told nothing of the tilt.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time

import numpy as np
import torch
import torch_ctf_estimation as peer


def main(path: str, pixel_size: float) -> None:
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    views = np.load(path).astype(np.float32)
    optics = peer.OpticalParams(pixel_spacing_angstroms=pixel_size)
    fitting = peer.CTFFittingParams(
        defocus_grid_resolution=(1, 1, 1),
        frequency_fit_range_angstroms=(40.0, 6.0),
        defocus_range_microns=(0.5, 7.0),
        patch_sidelength=512,
        defocus_model="linear",
    )
    found = []
    cpu = time.process_time()
    for view in views:
        image = torch.from_numpy((view - view.mean()) / view.std())
        with contextlib.redirect_stdout(sys.stderr):
            _, _, fit = peer.estimate_ctf(image, optics, fitting, device=torch.device("cpu"))
        found.append((1e4 * fit.defocus_u, 1e4 * fit.defocus_v, fit.astigmatism_angle))
    cpu = time.process_time() - cpu
    print(json.dumps({"cpu": cpu, "views": found}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
