"""Class numbers of SUN RGB-D's pixels: painted from the drawn polygons, or out of seg.mat.

Source: annotation2Dfinal/index.json of the distribution; seg37list of its toolbox; of seg.mat what
public readers of it agree on, see the descriptor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmbind_data.raw.arrays import Variable, read_mat
from mmbind_data.raw.files import RawFile, bad_file

# order in which the classes are numbered from 1 in the official seg37list; 0 is all the rest
SEG37_LIST = """
wall floor cabinet bed chair sofa table door window bookshelf picture counter blinds desk shelves
curtain dresser pillow mirror floor_mat clothes ceiling books fridge tv paper towel shower_curtain
box whiteboard person night_stand toilet sink lamp bathtub bag
"""
CLASSES = tuple(SEG37_LIST.split())
CLASS_IDS = {name: number for number, name in enumerate(CLASSES, start=1)}
FAR_CORNER = 1e5  # pixels: no corner of a real polygon is that far out


def paint(annotation: Any, shape: tuple[int, int], counts: Counter[str]) -> np.ndarray | None:
    """Class numbers of every pixel, from the polygons that people drew.

    Large polygons are painted first, so that a book stays visible before its shelf; of equal area,
    the one that comes later in the file is on top. What is none of the 37 classes is painted
    too, with 0: it hides what is behind it. Corners may be outside the image. ``annotation`` is a
    parsed annotation2Dfinal/index.json; remarks are added to ``counts``. The result is uint8 of
    ``shape``, (height, width), or None if there is nothing to paint.
    """
    from PIL import Image, ImageDraw

    polygons, objects = _polygons(annotation)
    drawn = []
    for polygon in polygons:
        number, corners = _class_number(polygon, objects), _corners(polygon)
        if number is None or corners is None:
            counts["polygons left out of semseg: no object, or no area"] += 1
            continue
        if number == 0:
            counts["polygons of other things than the 37 classes, painted 0"] += 1
        drawn.append((_area(corners), number, corners))
    if not drawn:
        counts["annotations without a usable polygon"] += 1
        return None
    canvas = Image.new("L", (shape[1], shape[0]))
    brush = ImageDraw.Draw(canvas)
    for _, number, corners in sorted(drawn, key=lambda one: -one[0]):
        brush.polygon([(float(x), float(y)) for x, y in corners], fill=number)
    return np.asarray(canvas)


def read_seg_mat(file: RawFile, shape: tuple[int, int]) -> np.ndarray | None:
    """Class numbers of every pixel, from a sample's seg.mat.

    Its ``seglabel`` holds for each pixel a place in ``names``, counted from 1; 0 is no object. The
    result is uint8 of the image's ``shape``, (height, width), or None if no pixel has a name.

    Raises
    ------
    RawLayoutError
        It holds something else.
    """
    places = read_mat(file, Variable("seglabel", shape))
    names = read_mat(file, Variable("names", (None, None), "O")).ravel()
    whole = places.astype(np.int64)
    if (whole != places).any() or whole.min() < 0 or whole.max() > len(names):
        got = f"{places.min()} to {places.max()}"
        raise bad_file(file, "seglabel", f"whole numbers from 0 to {len(names)} names", got)
    if not whole.any():
        return None
    classes = [0, *(_class_of(str(one.item())) if _is_one_text(one) else 0 for one in names)]
    return np.array(classes, dtype=np.uint8)[whole]


def _is_one_text(cell: Any) -> bool:
    return isinstance(cell, np.ndarray) and cell.size == 1 and cell.dtype.kind == "U"


def _polygons(annotation: Any) -> tuple[list[Any], list[Any]]:
    """Polygons and objects of an annotation, empty where it has another form."""
    if not isinstance(annotation, dict):
        return [], []
    frames, objects = annotation.get("frames"), annotation.get("objects")
    frame = frames[0] if isinstance(frames, list) and frames else None
    polygons = frame.get("polygon") if isinstance(frame, dict) else None
    if not isinstance(polygons, list) or not isinstance(objects, list):
        return [], []
    return polygons, objects


def _class_number(polygon: Any, objects: Sequence[Any]) -> int | None:
    """Class of a polygon's object, 0 for another thing; None where the object is missing."""
    index = polygon.get("object") if isinstance(polygon, dict) else None
    if not isinstance(index, int) or not 0 <= index < len(objects):
        return None
    name = objects[index].get("name") if isinstance(objects[index], dict) else None
    if not isinstance(name, str):
        return None
    return _class_of(name)


def _class_of(name: str) -> int:
    """Class of an object's name, 0 for none of the 37."""
    # "chair:occluded" is a chair
    plain = name.split(":")[0].strip().lower().replace(" ", "_")
    return CLASS_IDS.get(plain, 0)


def _corners(polygon: Any) -> np.ndarray | None:
    """Corners (k, 2), x and y in pixels; None if they enclose nothing."""
    try:
        corners = np.array([polygon["x"], polygon["y"]], dtype=np.float64).T
    except (KeyError, TypeError, ValueError, OverflowError):  # lists of unequal length, text, ...
        return None
    # a comparison with NaN is false
    if corners.ndim != 2 or not (np.abs(corners) <= FAR_CORNER).all() or not _area(corners):
        return None
    return corners


def _area(corners: np.ndarray) -> float:
    x, y = corners.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
