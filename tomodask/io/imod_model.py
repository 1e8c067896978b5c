"""IMOD's binary models (``.fid``, ``.seed``, ``.mod``, ``.3dmod``): objects of contours of points.

What is not interpreted here (meshes, materials, views, labels, extra properties, chunks of later
versions) is kept as it was. `imod_model_file` reads and writes models.

Source: IMOD's page "IMOD Binary File Format, Version 1, Revision 2".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "HEADER",
    "OBJECT",
    "Chunk",
    "ImageReference",
    "ImodModel",
    "ModelContour",
    "ModelObject",
]

#: Record of a model: name; size of the image; objects, flags, 4 drawing settings; offset and scale;
#: the current object, contour, point, and 2 settings; pixel size, units, checksum; angles.
HEADER = struct.Struct(">128s 3i i I 4i 6f 5i f 2i 3f")
#: Record of an object: name and extra words; contours, flags, axis, drawing mode; colour; point
#: size; 8 settings of symbols and lines; meshes, highest surface.
OBJECT = struct.Struct(">64s 64s i I 2i 3f i 8B 2i")
_MINX = struct.Struct(">18f")

#: Metres of each unit of the pixel size.
_UNITS: Final = {3: 1e3, 1: 1.0, -2: 1e-2, -3: 1e-3, -6: 1e-6, -9: 1e-9, -10: 1e-10, -12: 1e-12}
_ANGSTROM: Final = -10
_OPEN: Final = 1 << 3
_SCATTERED: Final = 1 << 9
#: Byte-sized materials, image origin in the reference, and tilt angles stored correctly.
_MODEL_FLAGS: Final = 0xF000


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a model that is kept as it is.

    Attributes
    ----------
    name : bytes
        Four letters.
    data : bytes
        Without the size that precedes it (a mesh has none).
    """

    name: bytes
    data: bytes


@dataclass(frozen=True, slots=True, eq=False)
class ModelContour:
    """Points, in order.

    Attributes
    ----------
    points : ndarray of float32, shape (n, 3)
        (x, y, z), pixels: x and y are index + 0.5, z is the index of the section.
    flags, time, surface : int
        As in the file; surfaces tell fiducials on two sides of the specimen apart.
    chunks : tuple of Chunk
        Label, sizes of points and other properties.
    """

    points: NDArray[np.float32]
    flags: int = 0
    time: int = 0
    surface: int = 0
    chunks: tuple[Chunk, ...] = ()

    @property
    def point_sizes(self) -> NDArray[np.float32] | None:
        """Radius of every point, pixels, negative where the object's applies; None without."""
        data = _data(self.chunks, b"SIZE")
        return None if data is None else np.frombuffer(data, ">f4").astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class ModelObject:
    """Contours that are drawn alike.

    Attributes
    ----------
    contours : tuple of ModelContour
    name : str
    flags : int
        As in the file; see `kind`.
    color : tuple of float
        Red, green, blue, 0 to 1.
    point_size : int
        Radius of the sphere that is drawn at a point, pixels.
    chunks : tuple of Chunk
        Meshes, material, labels and other properties.
    settings : bytes
        The record of the object in the file, from which all that is not named here is taken.
    """

    contours: tuple[ModelContour, ...]
    name: str = ""
    flags: int = _OPEN
    color: tuple[float, float, float] = (0.0, 1.0, 0.0)
    point_size: int = 0
    chunks: tuple[Chunk, ...] = ()
    settings: bytes = OBJECT.pack(
        b"", b"", 0, 0, 0, 1, 0.0, 0.0, 0.0, 0, 0, 7, 1, 1, 0, 0, 0, 0, 0, 0
    )

    @property
    def kind(self) -> str:
        """Whether contours are "closed", "open" or "scattered"."""
        if self.flags & _SCATTERED:
            return "scattered"
        return "open" if self.flags & _OPEN else "closed"


@dataclass(frozen=True, slots=True)
class ImageReference:
    """The image that a model was drawn on (chunk ``MINX``).

    Attributes
    ----------
    pixel_size, origin, rotation : tuple of float
        Of the image when it was loaded: (x, y, z), A and degrees.
    old_pixel_size, old_origin, old_rotation : tuple of float
        The same of the whole image in the file, as IMOD last stored them.
    """

    pixel_size: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    old_pixel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    old_origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    old_rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class ImodModel:
    """A model.

    Attributes
    ----------
    image_size : tuple of int
        (x, y, z) of the image, pixels.
    objects : tuple of ModelObject
    flags : int
        As in the file.
    pixel_size, units : float, int
        Size of a pixel and the power of ten of a metre that it counts in (-9 for nm); 0 where no
        unit is set and the size is a mere number.
    chunks : tuple of Chunk
        Views, image reference and what else belongs to the whole model.
    settings : bytes
        The header of the file, from which all that is not named here is taken.
    """

    image_size: tuple[int, int, int]
    objects: tuple[ModelObject, ...]
    flags: int = _MODEL_FLAGS
    pixel_size: float = 1.0
    units: int = 0
    chunks: tuple[Chunk, ...] = ()
    settings: bytes = field(
        default=HEADER.pack(
            b"IMOD-NewModel",
            *(0, 0, 0, 0, 0),
            *(1, 1, 0, 255),
            *(0.0, 0.0, 0.0, 1.0, 1.0, 1.0),
            *(0, 0, 0, 3, 128),
            *(1.0, 0, 0),
            *(0.0, 0.0, 0.0),
        ),
        repr=False,
    )

    @property
    def reference(self) -> ImageReference | None:
        """The image that the model was drawn on; None where the file does not say."""
        data = _data(self.chunks, b"MINX")
        if data is None:
            return None
        numbers = _MINX.unpack(data)
        old_size, old_origin, old_rotation, size, origin, rotation = (
            (numbers[i], numbers[i + 1], numbers[i + 2]) for i in range(0, 18, 3)
        )
        return ImageReference(size, origin, rotation, old_size, old_origin, old_rotation)

    @property
    def angstrom_per_pixel(self) -> float | None:
        """Pixel size of the image, A; from the reference, or else from the header's units."""
        reference = self.reference
        if reference is not None and reference.pixel_size[0] > 0:
            return reference.pixel_size[0]
        metres = _UNITS.get(self.units)
        return None if metres is None or self.pixel_size <= 0 else self.pixel_size * metres * 1e10

    @classmethod
    def create(
        cls,
        image_size: tuple[int, int, int],
        objects: tuple[ModelObject, ...],
        *,
        pixel_size: float | None = None,
    ) -> ImodModel:
        """Return a new model of an image without origin, of `pixel_size` A where it is known."""
        if pixel_size is None:
            return cls(image_size, objects)
        reference = _MINX.pack(*(1.0,) * 3, *(0.0,) * 6, *(pixel_size,) * 3, *(0.0,) * 6)
        return cls(
            image_size,
            objects,
            pixel_size=pixel_size,
            units=_ANGSTROM,
            chunks=(Chunk(b"MINX", reference),),
        )


def _data(chunks: tuple[Chunk, ...], name: bytes) -> bytes | None:
    return next((chunk.data for chunk in chunks if chunk.name == name), None)
