"""The base of re-identification: which box of the first frame is which box of the second."""

from typing import Any, List, NamedTuple

from .arrays import to_array
from .base import Function, Request, read_request
from .errors import RequestError
from .optional_libraries import numpy

# More than the sum of all allowed costs.
_FORBIDDEN = 1e6


class ReIdRequest(NamedTuple):
    """Two frames with their boxes (N x 4), and the limits of a match."""

    image0: Any
    boxes0: Any
    image1: Any
    boxes1: Any
    threshold: float
    max_distance: float


class ReId(Function):
    """A function that recognizes objects in another frame.

    `embed(image, boxes)` returns a vector for each box (N x D). Boxes are matched so that the sum
    of the distances of their vectors is the least, where the centres are at most `max_distance`
    pixels apart and the vectors at most `threshold`. `distances` may replace the cosine distance.
    A method `match(image0, boxes0, image1, boxes1)` may replace all that: it returns the index in
    `boxes1`, or -1, for each box of `boxes0`. Boxes without a pixel of their image have no match.
    """

    required_methods = (("embed", "match"),)
    max_distance = 50.0
    match: Any = None

    def embed(self, image: Any, boxes: Any) -> Any:
        """Return a vector for each box of an image."""
        raise NotImplementedError

    def distances(self, first: Any, second: Any) -> Any:
        """Return the distance of each vector of `first` to each of `second`, from 0 to 1.

        By default it is 1 minus the cosine of their angle, and 1 for right angles and more.
        """
        first, second = (_normalized(to_array(vectors)) for vectors in (first, second))
        return (1 - first @ second.T).clip(0, 1)

    def read(self, event: Any) -> ReIdRequest:
        request = read_request(event)
        threshold = request.number("threshold", self.threshold)
        max_distance = request.number("max_distance", self.max_distance, float("inf"))
        images = [self.decode(event, key) for key in ("image0", "image1")]
        boxes = [_read_boxes(request, key) for key in ("boxes0", "boxes1")]
        return ReIdRequest(images[0], boxes[0], images[1], boxes[1], threshold, max_distance)

    def answer(self, request: ReIdRequest) -> List[int]:
        rows = _inside(request.image0, request.boxes0)
        columns = _inside(request.image1, request.boxes1)
        result = [-1] * len(request.boxes0)
        if len(rows) and len(columns):
            # One such box must not end CVAT's run over all frames.
            boxes0, boxes1 = request.boxes0[rows], request.boxes1[columns]
            matches = self._matches(request._replace(boxes0=boxes0, boxes1=boxes1))
            for row, match in zip(rows.tolist(), matches):  # noqa: B905 - no strict in 3.6
                result[row] = int(columns[match]) if match >= 0 else -1
        return result

    def _matches(self, request: ReIdRequest) -> Any:
        """Return the index in `boxes1`, or -1, of each box of `boxes0`."""
        image0, boxes0, image1, boxes1, threshold, max_distance = request
        if self.match is not None:
            return self.match(image0, boxes0, image1, boxes1)
        vectors = self.embed(image0, boxes0), self.embed(image1, boxes1)
        costs = to_array(self.distances(*vectors)).astype("float64")
        centres0, centres1 = ((boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (boxes0, boxes1))
        apart = numpy.linalg.norm(centres0[:, None] - centres1[None], axis=2)
        # A cost that is not a number is no match.
        allowed = (costs <= threshold) & (apart <= max_distance)
        matches = assign(numpy.where(allowed, costs, _FORBIDDEN))
        return [j if j >= 0 and allowed[i, j] else -1 for i, j in enumerate(matches)]


def assign(costs: Any) -> List[int]:
    """Return the column of each row for the least sum of costs, -1 for a row without one.

    The Hungarian method with potentials, in O(n^3).
    """
    costs = to_array(costs).astype("float64")
    rows, columns = costs.shape
    if rows > columns:
        result = [-1] * rows
        for column, row in enumerate(assign(costs.T)):
            result[row] = column
        return result
    # Row and column 0 stand for "none".
    row_potential, column_potential = numpy.zeros(rows + 1), numpy.zeros(columns + 1)
    row_of = numpy.zeros(columns + 1, int)
    for row in range(1, rows + 1):
        row_of[0] = row
        column = 0
        least = numpy.full(columns + 1, numpy.inf)
        previous = numpy.zeros(columns + 1, int)
        used = numpy.zeros(columns + 1, bool)
        while row_of[column]:
            used[column] = True
            current = row_of[column]
            reduced = costs[current - 1] - row_potential[current] - column_potential[1:]
            better = ~used[1:] & (reduced < least[1:])
            least[1:][better] = reduced[better]
            previous[1:][better] = column
            nearest = int(numpy.where(used, numpy.inf, least).argmin())
            step = least[nearest]
            row_potential[row_of[used]] += step
            column_potential[used] -= step
            least[~used] -= step
            column = nearest
        while column:
            row_of[column] = row_of[previous[column]]
            column = previous[column]
    result = [-1] * rows
    for column in range(1, columns + 1):
        if row_of[column]:
            result[row_of[column] - 1] = column - 1
    return result


def _normalized(vectors: Any) -> Any:
    vectors = vectors.astype("float64").reshape(len(vectors), -1)
    return vectors / numpy.maximum(numpy.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _read_boxes(request: Request, key: str) -> Any:
    """Return the boxes (N x 4) of CVAT's rectangles."""
    try:
        boxes = [[float(value) for value in box["points"]] for box in request.values[key]]
        array = numpy.array(boxes, "float64").reshape(-1, 4)
    except (LookupError, TypeError, ValueError):
        array = None
    if array is None or len(array) != len(boxes) or not numpy.isfinite(array).all():
        raise RequestError('each box of "%s" needs points: left, top, right, bottom' % key)
    return array


def _inside(image: Any, boxes: Any) -> Any:
    """Return the indexes of the boxes that have a part of the image."""
    height, width = image.shape[:2]
    low, high = boxes[:, :2].clip(0), numpy.minimum(boxes[:, 2:], (width, height))
    return numpy.flatnonzero((high > low).all(1))
