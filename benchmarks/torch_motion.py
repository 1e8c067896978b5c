"""Motion correction by torch-motion-correction, on one core; run by an interpreter that has it.

Usage: python torch_motion.py MOVIE.npy PIXEL_SIZE POINTS

The movie is (frame, y, x) counts. What is printed is JSON: for each way of correcting the CPU and
wall seconds from frames in memory to the sum of all, and the displacement (frame, 2, y, x) in
pixels at POINTS x POINTS places from edge to edge.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
import torch_motion_correction as peer


def main(path: str, pixel_size: float, points: int) -> None:
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    counts = np.load(path)
    # Its defaults, but lengths in pixels instead of A, since `correct_motion_fast` takes them so.
    options = {
        "pixel_spacing": 1.0,
        "fourier_filter": peer.FourierFilterConfig(
            b_factor=500 / pixel_size**2, frequency_range=(300 / pixel_size, 10 / pixel_size)
        ),
    }
    edge = min(counts.shape[1:])

    def whole_frames(movie):
        field = peer.estimate_global_motion(movie, **options)
        peer.correct_motion_fast(movie, field).sum(dim=0)
        return field

    def correlated(movie):
        first = peer.estimate_global_motion(movie, **options)
        field, _ = peer.estimate_motion_cross_correlation_patches(
            movie,
            patch_sampling=peer.PatchSamplingConfig(patch_shape=(edge // 3, edge // 3)),
            initial_deformation_field=first,
            **options,
        )
        peer.correct_motion(movie, field, 1.0).sum(dim=0)
        return field

    def optimised(movie):
        first = peer.estimate_global_motion(movie, **options)
        field, _ = peer.estimate_local_motion(
            movie,
            deformation_field_resolution=(3, 5, 5),
            patch_sampling=peer.PatchSamplingConfig(patch_shape=(edge // 4, edge // 4)),
            initial_deformation_field=first,
            **options,
        )
        peer.correct_motion(movie, field, 1.0).sum(dim=0)
        return field

    results = {}
    for name, correct in (
        ("whole frames", whole_frames),
        ("5 x 5 patches, correlated", correlated),
        ("5 x 5 control points, optimised", optimised),
    ):
        cpu, wall = time.process_time(), time.perf_counter()
        field = correct(torch.from_numpy(counts.astype(np.float32)))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        moved = [
            field.evaluate_at_t(t, (points, points)).detach().numpy()
            for t in torch.linspace(0, 1, len(counts))
        ]
        results[name] = {"cpu": cpu, "wall": wall, "displacement": np.stack(moved).tolist()}
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
