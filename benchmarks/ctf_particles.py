"""Particles in a thick specimen, each in a series of its own, and what corrections can reach."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy.fft

import tomodask as td
from benchmarks.inputs import tilts
from tomodask.errors import TomodaskWarning
from tomodask.geometry import Projection
from tomodask.io.mrc_writer import MrcWriter
from tomodask.kernels.ctf import Correction, Optics, Transfer
from tomodask.kernels.fourier_crop import fourier_crop
from tomodask.model import ctf_dataset
from tomodask.simulate import (
    ContrastTransfer,
    Gaussian,
    Imaging,
    Phantom,
    simulate_tilt_series,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import xarray as xr
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    Images = NDArray[np.float32]

__all__ = [
    "PIXEL",
    "SIZES",
    "Group",
    "Size",
    "Specimen",
    "attainable",
    "corrected_as_a_whole",
    "counted",
    "frequencies",
    "simulated",
    "specimen",
    "stored",
]

Group = Literal["outer", "middle"]

#: Pixel, which is a voxel, A; exposure of a view, e/A^2; tilt axis, degrees.
PIXEL, EXPOSURE, AXIS = 2.0, 3.0, -85.0
_BLOBS = 150
_SIGMA = (1.5, 3.0)
_RADIUS = (75.0, 125.0)
#: Density of a blob, per A: with the noise of 3 e/A^2 the FSC fades over the band of the gain.
_DENSITY = -0.08
#: Particles lie as far as this from the tilt axis along x, A.
_SIDE = 400.0
#: Height of the outer layers, A.
_LAYER = 500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Thickness and edge of a particle's box, voxels; (y, x) of an aligned image; views; particles.

    Parameters
    ----------
    particles
        Of each of the outer layers; there are half as many in the middle.
    """

    thickness: int = 1500
    box: int = 160
    image: tuple[int, int] = (400, 1760)
    views: int = 41
    particles: int = 4
    shells: int = 40
    hands: tuple[Literal[-1, 1], ...] = (1, -1)

    def groups(self) -> Iterator[tuple[Group, float]]:
        """Give the group of each particle, and the sign of its height."""
        for _ in range(self.particles):
            yield from (("outer", 1.0), ("outer", -1.0))
        for _ in range((self.particles + 1) // 2):
            yield "middle", 0.0


SIZES = {
    "full": Size(),
    "small": Size(particles=1, hands=(1,)),
    "tiny": Size(
        thickness=700, box=128, image=(360, 900), views=9, particles=1, shells=16, hands=(1,)
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """A particle, how it is seen, and through which transfer.

    Parameters
    ----------
    group
        Where in the specimen it lies.
    centre
        (x, y, z), A.
    radius
        A.
    phantom, projection, ctf
        As simulated; the transfers are those at the specimen's origin.
    """

    group: Group
    centre: FloatArray
    radius: float
    phantom: Phantom
    projection: Projection
    ctf: tuple[ContrastTransfer, ...]

    def transfers(self) -> list[Transfer]:
        """Return the transfers as the package's corrections know them."""
        return [
            Transfer(
                Optics(one.voltage, one.spherical_aberration, one.amplitude_contrast),
                one.defocus_u,
                one.defocus_v,
                one.astigmatism_angle,
            )
            for one in self.ctf
        ]

    def table(self, handedness: int) -> xr.Dataset:
        """Return the transfers as a table of a series, at the place where the origin is seen."""
        first = self.ctf[0]
        return ctf_dataset(
            Optics(first.voltage, first.spherical_aberration, first.amplitude_contrast),
            method="imported",
            handedness=handedness,
            defocus_u=[one.defocus_u for one in self.ctf],
            defocus_v=[one.defocus_v for one in self.ctf],
            astigmatism_angle=[one.astigmatism_angle for one in self.ctf],
            phase_shift=np.zeros(len(self.ctf)),
            reference_x=self.projection.shift[:, 0],
            reference_y=self.projection.shift[:, 1],
        )


def specimen(size: Size, number: int, group: Group, sign: float) -> Specimen:
    """Return a particle of fine structure, seen about 3 um underfocus."""
    rng = np.random.default_rng([81, number])
    radius = float(rng.uniform(*_RADIUS))
    half = size.thickness * PIXEL / 2
    height = sign * rng.uniform(half - _LAYER, half - radius) if sign else rng.uniform(-100, 100)
    centre = np.array([rng.uniform(-_SIDE, _SIDE), rng.uniform(-20, 20), height])
    offset = rng.standard_normal((_BLOBS, 3))
    offset /= np.linalg.norm(offset, axis=1, keepdims=True)
    offset *= radius * rng.random((_BLOBS, 1)) ** (1 / 3)
    blobs = []
    for place in offset + centre:
        x, y, z = (float(value) for value in place)
        blobs.append(Gaussian((x, y, z), float(rng.uniform(*_SIGMA)), _DENSITY))
    # All particles are of one specimen, recorded once.
    recorded = np.random.default_rng(83)
    defocus = 30000 + recorded.normal(0, 1500, size.views)
    return Specimen(
        group=group,
        centre=centre,
        radius=radius,
        phantom=Phantom(tuple(blobs)),
        projection=Projection.create(
            tilts(size.views), tilt_axis_angle=AXIS, shift=recorded.normal(0, 30, (size.views, 2))
        ),
        ctf=tuple(ContrastTransfer(mean + 150, mean - 150, 20.0) for mean in defocus),
    )


def simulated(made: Specimen, size: Size, handedness: Literal[-1, 1] | None) -> Images:
    """Return the expected counts of all views, without noise, free of what lies beyond Nyquist."""
    shape = (size.image[1], size.image[0])  # the axis lies along x
    fine = simulate_tilt_series(
        made.phantom,
        made.projection,
        (2 * shape[0], 2 * shape[1]),
        pixel_size=PIXEL / 2,
        imaging=Imaging(
            exposure=EXPOSURE,
            counting_noise=False,
            ctf=made.ctf,
            handedness=handedness,
        ),
        supersample=1,
    ).images
    return np.stack([4 * fourier_crop(image, shape) for image in fine])


def counted(images: Images) -> Images:
    """Return images in counted electrons."""
    rng = np.random.default_rng(82)
    return rng.poisson(images).astype(np.float32)


def corrected_as_a_whole(images: Images, made: Specimen, correction: Correction) -> Images:
    """Return images of which each has one transfer, undone by it."""
    rows, columns = images.shape[1:]
    y, x = scipy.fft.fftfreq(rows, PIXEL)[:, None], scipy.fft.rfftfreq(columns, PIXEL)[None, :]
    done = np.empty_like(images)
    for view, transfer in enumerate(made.transfers()):
        spectrum = scipy.fft.rfft2(images[view] - images[view].mean())
        spectrum *= correction.factor(transfer.values(x, y)).astype(np.float32)
        done[view] = scipy.fft.irfft2(spectrum, s=(rows, columns))
    return done


def stored(images: Images, made: Specimen, path: Path) -> xr.DataTree:
    """Return the images as a series of a store."""
    stack = path.with_suffix(".mrc")
    with MrcWriter(stack, shape=images.shape, voxel_size=PIXEL, kind="stack") as writer:
        for image in images:
            writer.write(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TomodaskWarning)
        td.import_stack(
            stack,
            path,
            tilt_angles=list(made.projection.tilt_angle),
            tilt_axis=float(made.projection.tilt_axis_angle[0]),
            workers=1,
        )
    stack.unlink()
    return td.open(path)


def frequencies(size: Size) -> FloatArray:
    """Return the middles of the shells, 1/A."""
    middles: FloatArray = (np.arange(size.shells) + 0.5) / size.shells / (2 * PIXEL)
    return middles


def attainable(made: Specimen, size: Size, correction: Correction) -> tuple[FloatArray, FloatArray]:
    """Return, for each shell, the mean squared transfer and what a perfect correction reaches."""
    angle = np.arange(24) * np.pi / 24
    fine = (np.arange(size.shells * 8) + 0.5) / (size.shells * 8) / (2 * PIXEL)
    x, y = fine[:, None] * np.cos(angle), fine[:, None] * np.sin(angle)
    transfer = np.stack([one.values(x, y) for one in made.transfers()])
    seen = correction.factor(transfer) * transfer

    def of_shells(values: FloatArray) -> FloatArray:
        means: FloatArray = values.mean(axis=(0, 2)).reshape(size.shells, 8).mean(axis=1)
        return means

    return of_shells(transfer**2), of_shells(seen) / np.sqrt(of_shells(seen**2))
