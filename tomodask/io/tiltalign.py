"""What a command file (``align.com``) asks of IMOD's tiltalign.

Views are counted from 1 in the file and from 0 here.

Source: IMOD's manual page of ``tiltalign``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from tomodask.errors import FormatError
from tomodask.io.imod_commands import OptionReader, read_commands

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from tomodask.io.imod_commands import Command, Option

__all__ = [
    "LocalOptions",
    "TiltalignOptions",
    "VariableOptions",
    "read_tiltalign",
]

#: What tiltalign solves for, by the first word of its options.
_VARIABLES: Final = {
    "rotation": "Rot",
    "tilt": "Tilt",
    "magnification": "Mag",
    "compression": "Comp",
    "stretch": "XStretch",
    "skew": "Skew",
    "x_tilt": "XTilt",
}
#: Views that keep their value: in tiltalign's own names.
_FIXED_VIEW: Final = {
    "rotation": "RotationFixedView",
    "tilt": "TiltFixedView",
    "magnification": "MagReferenceView",
    "compression": "CompReferenceView",
}
Freedom = Literal["single", "fixed", "free", "mapped", "linear", "same"]

_COMMON: Final[dict[int, Freedom]] = {0: "fixed", 1: "free", 2: "mapped", 3: "linear", 4: "same"}
_OF_TILT: Final[dict[int, Freedom]] = {
    0: "fixed",
    1: "free",
    2: "free",
    3: "free",
    4: "mapped",
    5: "linear",
    6: "same",
}


@dataclass(frozen=True, slots=True)
class VariableOptions:
    """How one kind of variable is solved.

    Attributes
    ----------
    option : int or None
        As in the file; None where it does not say.
    freedom : str or None
        What that means: "fixed" at its starting value; one "single" value for all views; "free"
        in every view; "linear" within groups of views, or the "same" in each group; "mapped" as
        a list says that is kept in the unknown options.
    grouping : int or None
        Views in a group.
    reference_view, second_reference_view : int or None
        Views, from 0, whose value is fixed.
    other_groups : tuple of tuple of int
        Ranges of views with another size of groups: (first, last, size), views from 0.
    """

    option: int | None = None
    freedom: Freedom | None = None
    grouping: int | None = None
    reference_view: int | None = None
    second_reference_view: int | None = None
    other_groups: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """How areas are solved by themselves.

    Attributes
    ----------
    enabled : bool
        Whether they are.
    patches, patch_size : tuple of int or None
        Number of areas in (x, y), or the size to aim at, pixels.
    size_or_overlap : tuple of float or None
        In (x, y): least size in pixels, or below 1 the overlap as a fraction.
    fiducials : tuple of int or None
        Least number in an area, and on each surface.
    fix_xyz : bool
        Whether the fiducials keep the positions of the global solution.
    variables : dict
        As in `TiltalignOptions`.
    """

    enabled: bool = False
    patches: tuple[int, int] | None = None
    patch_size: tuple[int, int] | None = None
    size_or_overlap: tuple[float, float] | None = None
    fiducials: tuple[int, int] | None = None
    fix_xyz: bool = False
    variables: Mapping[str, VariableOptions] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TiltalignOptions:
    """What a command file asks of tiltalign; None where it does not say.

    Attributes
    ----------
    path : pathlib.Path
        The command file.
    model_file, image_file : str or None
        The fiducials and the prealigned stack.
    image_size : tuple of int or None
        (x, y) of the stack, pixels.
    binning : int
        Raw pixels to a pixel of the stack.
    rotation_angle : float
        Start of the tilt axis, degrees counter-clockwise from +y.
    tilt_file : str or None
        The angles; otherwise `first_tilt_angle` and `tilt_increment`, degrees.
    first_tilt_angle, tilt_increment : float or None
    angle_offset : float
        Added to all angles, degrees.
    axis_z_shift : float
        By which the tilt axis is shifted in z, pixels of the raw images.
    axis_x_shift : float
        The same in x.
    excluded : tuple of int
        Views, from 0.
    separate_groups : tuple of tuple of int
        Views, from 0, that share no group with others.
    variables : dict of str to VariableOptions
        Of "rotation", "tilt", "magnification", "compression", "stretch", "skew", "x_tilt".
    beam_tilt_option : int or None
    beam_tilt : float
        Fixed, or to start from, degrees.
    robust : bool
        Whether outliers are given less weight.
    k_factor : float or None
        Scale of the robust weights.
    surfaces : int or None
        On which fiducials are said to lie: 0, 1 or 2.
    report_criterion : float or None
        Standard deviations above the mean from which residuals are reported.
    local : LocalOptions
    outputs : dict of str to str
        Files to be written, by the option's name.
    unknown : tuple of Option
        Options of tiltalign that are not among these, kept as they are.
    commands : tuple of Command
        Everything in the file, other programs too.
    """

    path: Path
    model_file: str | None
    image_file: str | None
    image_size: tuple[int, int] | None
    binning: int
    rotation_angle: float
    tilt_file: str | None
    first_tilt_angle: float | None
    tilt_increment: float | None
    angle_offset: float
    axis_z_shift: float
    axis_x_shift: float
    excluded: tuple[int, ...]
    separate_groups: tuple[tuple[int, ...], ...]
    variables: Mapping[str, VariableOptions]
    beam_tilt_option: int | None
    beam_tilt: float
    robust: bool
    k_factor: float | None
    surfaces: int | None
    report_criterion: float | None
    local: LocalOptions
    outputs: Mapping[str, str]
    unknown: tuple[Option, ...]
    commands: tuple[Command, ...]


def read_tiltalign(path: str | PathLike[str]) -> TiltalignOptions:
    """Read what a command file asks of tiltalign.

    Parameters
    ----------
    path : path-like
        ``align.com``; other programs in it are kept and not run.

    Returns
    -------
    TiltalignOptions

    Raises
    ------
    FormatError
        The file runs no or several tiltalign, or a value is not of its option's kind.
    StoreError
        The file cannot be read.
    """
    commands = read_commands(path)
    path = Path(path).absolute()
    runs = [command for command in commands if Path(command.program).name == "tiltalign"]
    if len(runs) != 1:
        raise FormatError(
            f"{path}: runs tiltalign {len(runs)} times; give a command file that runs it once"
        )
    given = OptionReader(path, runs[0].options)
    size, binning = given.integers("ImageSizeXandY", 2), given.integer("ImagesAreBinned")
    patches = given.integers("NumberOfLocalPatchesXandY", 2)
    patch_size = given.integers("TargetPatchSizeXandY", 2)
    overlap = given.reals("MinSizeOrOverlapXandY", 2)
    least = given.integers("MinFidsTotalAndEachSurface", 2)
    local = LocalOptions(
        enabled=given.switch("LocalAlignments"),
        patches=None if patches is None else (patches[0], patches[1]),
        patch_size=None if patch_size is None else (patch_size[0], patch_size[1]),
        size_or_overlap=None if overlap is None else (overlap[0], overlap[1]),
        fiducials=None if least is None else (least[0], least[1]),
        fix_xyz=given.switch("FixXYZCoordinates"),
        variables={name: _variable(given, name, "Local") for name in _VARIABLES},
    )
    return TiltalignOptions(
        path=path,
        model_file=given.text("ModelFile"),
        image_file=given.text("ImageFile"),
        image_size=None if size is None else (size[0], size[1]),
        binning=1 if binning is None else binning,
        rotation_angle=given.real("RotationAngle") or 0.0,
        tilt_file=given.text("TiltFile"),
        first_tilt_angle=given.real("FirstTiltAngle"),
        tilt_increment=given.real("TiltIncrement"),
        angle_offset=given.real("AngleOffset") or 0.0,
        axis_z_shift=given.real("AxisZShift") or 0.0,
        axis_x_shift=given.real("AxisXShift") or 0.0,
        excluded=tuple(view for views in given.views("ExcludeList") for view in views),
        separate_groups=given.views("SeparateGroup"),
        variables={name: _variable(given, name) for name in _VARIABLES},
        beam_tilt_option=given.integer("BeamTiltOption"),
        beam_tilt=given.real("FixedOrInitialBeamTilt") or 0.0,
        robust=given.switch("RobustFitting"),
        k_factor=given.real("KFactorScaling"),
        surfaces=given.integer("SurfacesToAnalyze"),
        report_criterion=given.real("ResidualReportCriterion"),
        local=local,
        outputs={
            option.name: given.text(option.name) or ""
            for option in runs[0].options
            if option.name.startswith("Output")
        },
        unknown=given.rest(),
        commands=commands,
    )


def _variable(given: OptionReader, name: str, prefix: str = "") -> VariableOptions:
    word = prefix + _VARIABLES[name]
    option = given.integer(f"{word}Option")
    meanings = dict(_OF_TILT if name == "tilt" else _COMMON)
    if name == "rotation":
        meanings[-1] = "single"
    elif name == "stretch":
        # Its logs have one stretch for all views of a group, and steps between groups.
        meanings[3] = "same"
    if option is not None and option not in meanings:
        raise FormatError(
            f"{given.path}: {word}Option {option} is none of {sorted(meanings)}; correct it"
        )
    fixed = _FIXED_VIEW.get(name)
    reference = None if fixed is None else given.integer(prefix + fixed)
    second = given.integer(f"{prefix}TiltSecondFixedView") if name == "tilt" else None
    return VariableOptions(
        option=option,
        freedom=None if option is None else meanings[option],
        grouping=given.integer(f"{word}DefaultGrouping"),
        reference_view=_from_zero(reference),
        second_reference_view=_from_zero(second),
        other_groups=tuple(
            (first - 1, last - 1, size)
            for first, last, size in given.every_integers(f"{word}NondefaultGroup", 3)
        ),
    )


def _from_zero(view: int | None) -> int | None:
    return None if view is None else view - 1
