"""Plans: which calls are taken, and the programs that evaluate them together."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple, Protocol, TypeAlias

from penaltyscope._fused._form import Answers, Form, Parts, Situation, Sketch, View, Whole, kept
from penaltyscope._fused._product import accumulate, inner, square_sum, start
from penaltyscope._fused._program import Program

Numbers: TypeAlias = tuple[tuple[float, int], ...]
"""Coefficients, and positions among the numbers that come out of programs."""


class Asked(Protocol):
    """A call, as far as a plan depends on it."""

    @property
    def tensors(self) -> tuple[int, ...]: ...
    @property
    def mask(self) -> int | None: ...
    @property
    def active(self) -> bool: ...
    def fits(self, classes: Sequence[int]) -> bool: ...
    def form(self, sketch: Sketch) -> Form | Whole | None: ...


class Slope(NamedTuple):
    """The gradient of a call by a tensor, up to the call's factor."""

    call: int
    tensor: int
    parts: Parts
    """Coefficients of fields."""
    square: Numbers
    """The squared norm."""


class Task(NamedTuple):
    """A program, and where its numbers belong."""

    tensor: int
    """One with the rows that the program goes through."""
    program: Program
    numbers: tuple[int, ...]
    squares: tuple[int, ...]
    """Positions of sums of squares, whose roots may exist where they themselves do not."""


class Plan(NamedTuple):
    """How calls are evaluated."""

    answers: Answers
    """What the plan was made for: it holds for as long as these are the answers."""
    forms: Mapping[int, Form | Whole]
    """Of the calls that are taken, by position."""
    early: tuple[Task, ...]
    """Sums of squares that the factors of some calls depend on."""
    main: tuple[Task, ...]
    """All other numbers, and on the way the totals of the gradients."""
    used: tuple[int, ...]
    """The tensors of these calls."""
    numbers: int
    """How many numbers there are."""
    sums: Mapping[int, Numbers]
    """By call but for wholes, the value up to its factor."""
    slopes: Sequence[Slope]
    """Of the calls that are active, by the tensors whose gradient is wanted."""
    sloped: Sequence[tuple[int, int]]
    """For each slope its call's number among those that are taken, and its tensor."""
    squares: Mapping[int, int]
    """By tensor, the position of the squared norm of the total."""
    products: Mapping[tuple[int, int, int], int]
    """By tensor and two fields, their inner product; of all fields if the plan has the Gram."""

    def holds(self, situation: Situation) -> bool:
        """Whether the plan is one for this situation."""
        for (question, about), answer in self.answers.items():
            if question(situation, *about) != answer:
                return False
        return True


def make_plan(
    requests: Sequence[Asked],
    classes: Sequence[int],
    wanted: Sequence[bool],
    situation: Situation,
    *,
    gram: bool,
    in_graph: bool = False,
) -> Plan:
    """Lays out an evaluation.

    Args:
        requests: of the calls that may have a closed form.
        classes: for each tensor a number, equal for those that may be combined; -1 if none may.
        wanted: for each tensor whether the gradient by it is wanted.
        situation: what forms may ask about.
        gram: whether inner products of all slopes are wanted.
        in_graph: whether the programs are to be compiled.
    """
    layout = _Layout(situation, classes, wanted, in_graph=in_graph)
    for call, request in enumerate(requests):
        if request.fits(classes):
            layout.add(call, request)
    return layout.plan(gram=gram)


class _Sheet:
    """What is computed over the tensors of one shape."""

    def __init__(self, situation: Situation, tensor: int, *, in_graph: bool) -> None:
        self.sketch = Sketch(situation, in_graph=in_graph)
        self.tensor = tensor
        self.early: dict[int, int] = {}
        """By field, the position of the number."""
        self.main: dict[int, int] = {}
        self.squares: set[int] = set()
        self.fields: dict[int, list[int]] = {}
        """By tensor, its slopes."""
        self.totals: dict[int, int] = {}
        """By tensor, the field that is the sum of them so far."""

    def tasks(self) -> tuple[Task, Task]:
        """The early one and the main one."""

        def task(numbers: dict[int, int]) -> Task:
            places = tuple(numbers.values())
            squares = tuple(place for place in places if place in self.squares)
            return Task(self.tensor, self.sketch.program([*numbers]), places, squares)

        return task(self.early), task(self.main)


class _Layout:
    """A plan in the making."""

    def __init__(
        self,
        situation: Situation,
        classes: Sequence[int],
        wanted: Sequence[bool],
        *,
        in_graph: bool,
    ) -> None:
        self._situation = situation
        self._in_graph = in_graph
        self._classes = classes
        self._wanted = wanted
        self._sheets: dict[int, _Sheet] = {}
        self._forms: dict[int, Form | Whole] = {}
        self._used: dict[int, None] = {}
        self._sums: dict[int, Numbers] = {}
        self._slopes: list[Slope] = []
        self._products: dict[tuple[int, int, int], int] = {}
        self._count = 0

    def add(self, call: int, request: Asked) -> None:
        """Takes a call, if it has a closed form."""
        sheet = self._sheet(request.tensors[0])
        form = request.form(sheet.sketch)
        if form is None:
            return
        self._forms[call] = form
        self._used |= dict.fromkeys(request.tensors)
        if isinstance(form, Form):
            self._sums[call] = tuple(
                (c, self._number(sheet, field, early=form.settle is not None))
                for c, field in form.sums
            )
        for x in request.tensors:
            if request.active and self._wanted[x]:
                sheet = self._sheet(x)
                parts = _parts(sheet.sketch, form, call, View(x, request.mask))
                for _, field in parts:
                    self._collect(sheet, x, field)
                square = [(c * c, self._product(sheet, x, f, f)) for c, f in parts]
                square += [
                    (2.0 * c * d, self._product(sheet, x, f, g))
                    for (c, f), (d, g) in combinations(parts, 2)
                ]
                self._slopes.append(Slope(call, x, parts, tuple(square)))

    def plan(self, *, gram: bool) -> Plan:
        """The finished plan."""
        squares = {}
        for sheet in self._sheets.values():
            for x, field in sheet.totals.items():
                norm = sheet.sketch(inner, field, field, sheet.sketch.leaf("sums"))
                squares[x] = self._number(sheet, norm)
                sheet.squares.add(squares[x])
                if gram:
                    for f, g in combinations(sheet.fields[x], 2):
                        self._product(sheet, x, f, g)
        tasks = [sheet.tasks() for sheet in self._sheets.values()]
        row = {call: i for i, call in enumerate(self._forms)}
        return Plan(
            answers={q: a for s in self._sheets.values() for q, a in s.sketch.answers.items()},
            forms=self._forms,
            early=tuple(early for early, _ in tasks if early.numbers),
            main=tuple(main for _, main in tasks if main.numbers),
            used=tuple(self._used),
            numbers=self._count,
            sums=self._sums,
            slopes=self._slopes,
            sloped=[(row[slope.call], slope.tensor) for slope in self._slopes],
            squares=squares,
            products=self._products,
        )

    def _sheet(self, x: int) -> _Sheet:
        new = _Sheet(self._situation, x, in_graph=self._in_graph)
        return self._sheets.setdefault(self._classes[x], new)

    def _collect(self, sheet: _Sheet, x: int, field: int) -> None:
        """Adds a slope to the total right away, so that its memory is soon free."""
        f, fields = sheet.sketch, sheet.fields.setdefault(x, [])
        if field in fields:
            return
        fields.append(field)
        self._product(sheet, x, field, field)
        coefficient = f.leaf("coefficient", x, field)
        if x in sheet.totals:
            sheet.totals[x] = f(accumulate, sheet.totals[x], field, coefficient)
        else:
            sheet.totals[x] = f(start, f.leaf("total", x), field, coefficient)

    def _product(self, sheet: _Sheet, x: int, a: int, b: int) -> int:
        f, sums = sheet.sketch, sheet.sketch.leaf("sums")
        # A value may be a sum of squares of what is a slope, too.
        known = f.find(square_sum, a, sums) if a == b else None
        field = f(inner, min(a, b), max(a, b), sums) if known is None else known
        number = self._number(sheet, field)
        self._products[x, a, b] = self._products[x, b, a] = number
        if a == b:
            sheet.squares.add(number)
        return number

    def _number(self, sheet: _Sheet, field: int, *, early: bool = False) -> int:
        """The position of the number that a 0-d field adds up to."""
        number = sheet.early.get(field, sheet.main.pop(field, self._count))
        self._count += number == self._count
        if early or field in sheet.early:
            sheet.early[field] = number
            sheet.squares.add(number)
        else:
            sheet.main[field] = number
        return number


def _parts(f: Sketch, form: Form | Whole, call: int, view: View) -> Parts:
    if isinstance(form, Whole):
        return ((form.factor, f.leaf("whole", call, view.tensor)),)
    return tuple((c, kept(f, view, field)) for c, field in form.slopes[view.tensor])
