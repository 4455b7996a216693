r"""How the user's copy of GR4DHCI is laid out: assumed, or described by ``gr4dhci-mapping.json``.

The raw format is unpublished, so nothing about it is built in but defaults, which the file in the
raw folder overrides field by field, for example::

    {"skeleton": {"pattern": "(?P<subject>S[0-9]+)/(?P<label>[a-z]+)(?P<trial>[0-9]+)\\.npy",
                  "row": "joint", "unit": "m"},
     "labels": {"grab": "grab", "tap": "tap with one finger"}}

Source: none but the user; what is known of the dataset is in gr4dhci.json.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from mmbind_data.errors import RawLayoutError
from mmbind_data.raw.files import RawFile, bad_layout
from mmbind_data.raw.tables import read_json
from mmbind_data.spec.descriptor import Model
from mmbind_data.spec.validation_messages import fault_of

FILE = "gr4dhci-mapping.json"
STEP = f"Correct {FILE}; `mmbind datasets gr4dhci` tells its fields."
SAMPLE = "subject_(?P<subject>[0-9]+)/gesture_(?P<label>[0-9]+)/trial_(?P<trial>[0-9]+)"
NEEDED, ALLOWED = {"label", "trial"}, {"subject", "label", "trial", "frame"}
Side = Literal["left", "right"]
METRES = {"mm": 1e-3, "cm": 1e-2, "m": 1.0}


def _with_known_groups(pattern: str, allowed: set[str]) -> str:
    """Validate a pattern: it must compile, and its groups be those that are known."""
    try:
        groups = set(re.compile(pattern).groupindex)
    except re.error as error:
        message = f"no regular expression: {error}"
        raise ValueError(message) from error
    if not NEEDED <= groups <= allowed:
        message = (
            f"groups {', '.join(sorted(groups)) or 'none'}; "
            f"needed {', '.join(sorted(NEEDED))}, possible {', '.join(sorted(allowed))}"
        )
        raise ValueError(message)
    return pattern


Skeleton = Annotated[str, AfterValidator(partial(_with_known_groups, allowed=ALLOWED))]
Infrared = Annotated[str, AfterValidator(partial(_with_known_groups, allowed=ALLOWED | {"eye"}))]


class SkeletonFiles(Model):
    """Which files hold joints, one per trial or (group ``frame``) one per frame, and how."""

    pattern: Skeleton = SAMPLE + r"/skeleton\.(?:csv|txt|npy)"
    joints: int = Field(default=21, ge=1, le=1000)
    keep: tuple[int, ...] | None = Field(default=None, min_length=1)
    row: Literal["frame", "joint"] = "frame"
    unit: Literal["mm", "cm", "m"] = "mm"
    separator: Literal[",", ";", " ", "\t"] = ","
    header_lines: int = Field(default=0, ge=0)
    first_column: int = Field(default=0, ge=0)
    columns: int | None = Field(default=None, ge=3)

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if self.keep is not None and not set(self.keep) <= set(range(self.joints)):
            message = f"keep holds numbers of joints, 0 to {self.joints - 1}"
            raise ValueError(message)
        if self.n_columns < self.first_column + self.n_numbers:
            message = f"columns is less than first_column + {self.n_numbers} numbers"
            raise ValueError(message)
        return self

    @property
    def n_numbers(self) -> int:
        """Coordinates in a row."""
        return 3 * self.joints if self.row == "frame" else 3

    @property
    def n_columns(self) -> int:
        """Cells in a row of a text file."""
        return self.columns or self.first_column + self.n_numbers


class InfraredFiles(Model):
    """Which files hold infrared images, and where in them the two eyes are."""

    pattern: Infrared = SAMPLE + r"/(?P<eye>left|right)_(?P<frame>[0-9]+)\.(?:png|jpg)"
    eyes: dict[str, Side] = Field(
        default_factory=lambda: dict[str, Side](left="left", right="right")
    )
    layout: Literal["one eye", "left over right", "left beside right"] = "one eye"

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if "eye" in re.compile(self.pattern).groupindex and self.layout != "one eye":
            message = "the pattern tells the eye by a group, so layout must be 'one eye'"
            raise ValueError(message)
        return self


class Mapping(Model):
    """The whole file; every field may be left out."""

    skeleton: SkeletonFiles = SkeletonFiles()
    ir: InfraredFiles = InfraredFiles()
    labels: dict[str, str] = Field(default_factory=dict)
    note: str = ""

    @model_validator(mode="after")
    def _same_subjects(self) -> Self:
        groups = [re.compile(one.pattern).groupindex for one in (self.skeleton, self.ir)]
        if ("subject" in groups[0]) != ("subject" in groups[1]):
            message = "either both patterns have a group subject, or none"
            raise ValueError(message)
        return self


@dataclass(frozen=True)
class Place:
    """What is known of one file by its path."""

    modality: str
    canonical: str
    subject: str | None
    label: str
    trial: str
    frame: int | None
    eye: str | None

    @property
    def key(self) -> str:
        """The sample that the file belongs to."""
        parts = (self.subject, self.label, self.trial)
        return "/".join(part for part in parts if part is not None)


def load_mapping(file: RawFile | None) -> Mapping:
    """Read the user's mapping; without a file, the assumed layout.

    Raises
    ------
    RawLayoutError
        No JSON, an unknown field, or a value that cannot be used.
    """
    if file is None:
        return Mapping()
    document = read_json(file)
    try:
        # in JSON's own terms: a list is a tuple there, but a number is no text
        return Mapping.model_validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        found = fault_of(error, file.place)
        raise RawLayoutError(cannot=f"read {file.path}", **found, fix=STEP) from error


def locate(mapping: Mapping, path: str) -> Place | None:
    """Tell what a scanned path names; None if it matches neither pattern.

    Patterns match the end of the path, from the beginning of some folder's or the file's name on;
    zips count as folders without ``.zip``.

    Raises
    ------
    RawLayoutError
        Both patterns match.
    """
    found = []
    unpacked = re.sub(r"\.zip(?=/)", "", path, flags=re.IGNORECASE)
    for modality, pattern in (("skeleton", mapping.skeleton.pattern), ("ir", mapping.ir.pattern)):
        match = re.fullmatch(rf"(?:.*/)?(?P<mmbind_tail>{pattern})", unpacked)
        if match is not None:
            groups = match.groupdict()
            frame = groups.get("frame")
            found.append(
                Place(
                    modality,
                    canonical=groups["mmbind_tail"],
                    subject=groups.get("subject"),
                    label=groups["label"],
                    trial=groups["trial"],
                    frame=None if frame is None else int(frame),
                    eye=groups.get("eye"),
                )
            )
    if len(found) > 1:
        got = "a fit to both patterns"
        raise bad_layout("gr4dhci", "two meanings", path, "skeleton or ir", got, STEP)
    return found[0] if found else None
