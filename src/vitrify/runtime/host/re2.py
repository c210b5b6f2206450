"""Regular expressions of RE2: the syntax, and matching in time linear in the text.

``re`` would take exponential time for patterns such as ``(a|a)*b``, which a model may bring.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Callable
from typing import Any, NoReturn

MAX_STATES = 20_000
MAX_REPEAT = 1000
MAX_NESTING = 200
MAX_CACHED = 10_000

Predicate = Callable[[str], bool]
Tree = tuple[Any, ...]


class PatternError(ValueError):
    """The pattern is none of RE2's; the message says why."""


def _is_word(c: str) -> bool:
    return c.isascii() and (c.isalnum() or c == "_")


def _among(characters: str) -> Predicate:
    held = frozenset(characters)
    return held.__contains__


def _negated(inner: Predicate) -> Predicate:
    return lambda c: not inner(c)


_PERL: dict[str, Predicate] = {"d": _among(string.digits), "s": _among("\t\n\f\r "), "w": _is_word}
_POSIX: dict[str, Predicate] = {
    "alnum": _among(string.ascii_letters + string.digits), "alpha": _among(string.ascii_letters),
    "ascii": str.isascii, "blank": _among("\t "), "cntrl": _among("".join(map(chr, range(32))) + "\x7f"),
    "digit": _PERL["d"], "graph": _among("".join(map(chr, range(33, 127)))), "lower": _among(string.ascii_lowercase),
    "print": _among("".join(map(chr, range(32, 127)))), "punct": _among(string.punctuation),
    "space": _among("\t\n\v\f\r "), "upper": _among(string.ascii_uppercase), "word": _is_word,
    "xdigit": _among(string.hexdigits),
}  # fmt: skip
_ESCAPES = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ASSERTIONS = {"A": "begin", "z": "end", "b": "word", "B": "inside"}
_CATEGORIES = {
    "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi",
    "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs", "C", "Cc", "Cf", "Co", "Cs",
}  # fmt: skip


class _Parser:
    """A pattern as a tree of ``set``, ``assert``, ``cat``, ``alt`` and ``repeat``."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._flags: frozenset[str] = frozenset()
        self._names: set[str] = set()

    def parse(self) -> Tree:
        tree = self._alternatives(0)
        if self._at < len(self._text):
            self._fail("unexpected )")
        return tree

    def _fail(self, why: str) -> NoReturn:
        raise PatternError(f"{why} at character {self._at}")

    def _peek(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _take(self, what: str = "the pattern ends early") -> str:
        if self._at >= len(self._text):
            self._fail(what)
        self._at += 1
        return self._text[self._at - 1]

    def _until(self, end: str, what: str) -> str:
        stop = self._text.find(end, self._at)
        if stop < 0:
            self._fail(what)
        found = self._text[self._at : stop]
        self._at = stop + len(end)
        return found

    # Structure
    def _alternatives(self, depth: int) -> Tree:
        if depth > MAX_NESTING:
            self._fail(f"groups nested more than {MAX_NESTING} deep")
        flags, branches = self._flags, [self._sequence(depth)]
        while self._peek("|"):
            self._at += 1
            branches.append(self._sequence(depth))
        self._flags = flags
        return branches[0] if len(branches) == 1 else ("alt", branches)

    def _sequence(self, depth: int) -> Tree:
        parts: list[Tree] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            place = self._at
            if self._repetition() is not None:  # at the start, after flags, or after quoted text
                if not parts:
                    self._fail("a repetition of nothing")
                self._at = place
                parts[-1] = self._repeated(parts[-1])
                continue
            if self._peek("\\Q"):
                self._at += 2
                stop = self._text.find("\\E", self._at)
                quoted = self._text[self._at :] if stop < 0 else self._text[self._at : stop]
                self._at = len(self._text) if stop < 0 else stop + 2
                parts += [self._literal(c) for c in quoted]
                continue
            atom = self._atom(depth)
            if atom is not None:
                parts.append(self._repeated(atom))
        return ("cat", parts)

    def _repetition(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._peek(sign):
                self._at += 1
                return bounds
        if not self._peek("{"):
            return None
        body, closed, _ = self._text[self._at + 1 :].partition("}")
        low, comma, high = body.partition(",")
        if not closed or not _is_number(low) or not (high == "" or _is_number(high)):
            return None  # a brace as it is
        if max(len(low), len(high)) > 4:
            self._fail("repetition size")
        least = int(low)
        most = (int(high) if high else None) if comma else least
        if least > MAX_REPEAT or (most is not None and (most > MAX_REPEAT or most < least)):
            self._fail("repetition size")
        self._at += len(body) + 2
        return least, most

    def _repeated(self, atom: Tree) -> Tree:
        bounds = self._repetition()
        if bounds is None:
            return atom
        if self._peek("?"):  # the whole text has to match: greed decides nothing
            self._at += 1
        if self._repetition() is not None:
            self._fail("a repetition of a repetition")
        return ("repeat", atom, *bounds)

    # Atoms
    def _literal(self, c: str) -> Tree:
        return ("set", self._folded(lambda other: other == c))

    def _folded(self, inner: Predicate) -> Predicate:
        if "i" not in self._flags:
            return inner
        return lambda c: inner(c) or any(len(d) == 1 and inner(d) for d in (c.lower(), c.upper()))

    def _atom(self, depth: int) -> Tree | None:
        """None for flags, which match nothing."""
        c = self._take()
        if c == "(":
            return self._group(depth)
        if c == "[":
            return ("set", self._folded(self._class()))
        if c == ".":
            return ("set", (lambda _: True) if "s" in self._flags else (lambda d: d != "\n"))
        if c in "^$":
            line = "m" in self._flags
            return ("assert", ("line begin" if line else "begin") if c == "^" else ("line end" if line else "end"))
        if c != "\\":
            return self._literal(c)
        if self._at < len(self._text) and self._text[self._at] in _ASSERTIONS:
            return ("assert", _ASSERTIONS[self._take()])
        found = self._escape()
        return self._literal(found) if isinstance(found, str) else ("set", self._folded(found))

    def _group(self, depth: int) -> Tree | None:
        flags = self._flags
        if self._peek("?"):
            self._at += 1
            if self._peek("P<") or (self._peek("<") and not self._peek("<=") and not self._peek("<!")):
                self._at += 2 if self._peek("P") else 1
                name = self._until(">", "a group's name has no end")
                if not name or not all(map(_is_word, name)) or name in self._names:
                    self._fail(f"the group's name {name!r}")
                self._names.add(name)
            elif self._set_flags() == ")":
                return None
        tree = self._alternatives(depth + 1)
        self._flags = flags
        if not self._peek(")"):
            self._fail("missing )")
        self._at += 1
        return tree

    def _set_flags(self) -> str:
        """Reads flags up to ``:`` or ``)``, which it gives."""
        adding, given = True, False
        while True:
            c = self._take("missing )")
            if c in ":)":
                if not adding and not given:
                    self._fail("flags")
                return c
            if c == "-" and adding:
                adding, given = False, False
            elif c in "imsU":
                given = True
                self._flags = self._flags | {c} if adding else self._flags - {c}
            else:
                self._fail(f"(?{c}, which RE2 lacks")

    def _escape(self) -> str | Predicate:
        """A character, or a class of them."""
        c = self._take("a trailing backslash")
        if c.lower() in _PERL:
            return _PERL[c] if c.islower() else _negated(_PERL[c.lower()])
        if c in "pP":
            return self._unicode(c == "P")
        if c in _ESCAPES:
            return _ESCAPES[c]
        if c == "x":
            digits = self._until("}", "missing }") if self._braced() else self._take() + self._take()
            if not digits or len(digits) > 6 or not set(digits) <= set(string.hexdigits) or int(digits, 16) > 0x10FFFF:
                self._fail("an escape")
            return chr(int(digits, 16))
        if c in "01234567":
            following = self._text[self._at : self._at + 2]
            octal = following[: 1 if following[1:2] not in tuple("01234567") else 2]
            octal = octal if octal[:1] in tuple("01234567") else ""
            if c != "0" and not octal:
                self._fail(f"\\{c}, a back reference, which RE2 lacks")
            self._at += len(octal)
            return chr(int(c + octal, 8))
        if not c.isascii() or _is_word(c):
            self._fail(f"the escape \\{c}")
        return c

    def _braced(self) -> bool:
        found = self._peek("{")
        self._at += found
        return found

    def _unicode(self, negated: bool) -> Predicate:
        name = self._until("}", "missing }") if self._braced() else self._take()
        if name.startswith("^"):
            name, negated = name[1:], not negated
        if name != "Any" and name not in _CATEGORIES:
            self._fail(f"the class \\p{{{name}}}, which is no general category")
        inner: Predicate = (lambda _: True) if name == "Any" else lambda c: unicodedata.category(c).startswith(name)
        return _negated(inner) if negated else inner

    def _class(self) -> Predicate:
        negated = self._peek("^")
        self._at += negated
        members: list[Predicate] = []
        first = True
        while first or not self._peek("]"):
            first = False
            if self._peek("[:"):
                self._at += 2
                name = self._until(":]", "missing :]")
                if name.lstrip("^") not in _POSIX or name.startswith("^^"):
                    self._fail(f"the class [:{name}:]")
                inner = _POSIX[name.lstrip("^")]
                members.append(_negated(inner) if name.startswith("^") else inner)
                continue
            low = self._member()
            if isinstance(low, str) and self._peek("-") and not self._peek("-]"):
                self._at += 1
                high = self._member()
                if not isinstance(high, str) or high < low:
                    self._fail("a range of characters")
                members.append(_between(low, high))
            else:
                members.append(_between(low, low) if isinstance(low, str) else low)
        self._at += 1
        return lambda c: any(member(c) for member in members) != negated

    def _member(self) -> str | Predicate:
        c = self._take("missing ]")
        return self._escape() if c == "\\" else c


def _between(low: str, high: str) -> Predicate:
    return lambda c: low <= c <= high


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


class Pattern:
    """A pattern, ready to match. Raises :class:`PatternError` for one that is none.

    States are numbered: ``_sets`` has those that take a character, ``_free`` those that take none.
    """

    def __init__(self, pattern: str) -> None:
        self._sets: dict[int, tuple[Predicate, int]] = {}
        self._free: dict[int, tuple[str, tuple[int, ...]]] = {}
        self._count = 1  # state 0 is the match
        self._start = frozenset({self._add(_Parser(pattern).parse(), 0)})
        self._closures: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        self._steps: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def _new(self) -> int:
        self._count += 1
        if self._count > MAX_STATES:
            raise PatternError(f"the pattern takes more than {MAX_STATES} states")
        return self._count - 1

    def _add(self, tree: Tree, after: int) -> int:
        """The state from which ``tree`` leads to ``after``."""
        kind = tree[0]
        if kind == "cat":
            for part in reversed(tree[1]):
                after = self._add(part, after)
            return after
        if kind == "repeat":
            return self._add_repeat(tree, after)
        state = self._new()
        if kind == "set":
            self._sets[state] = (tree[1], after)
        elif kind == "assert":
            self._free[state] = (tree[1], (after,))
        else:
            self._free[state] = ("", tuple(self._add(branch, after) for branch in tree[1]))
        return state

    def _add_repeat(self, tree: Tree, after: int) -> int:
        _, inner, least, most = tree
        entry = after
        if most is None:
            entry = self._new()
            self._free[entry] = ("", (self._add(inner, entry), after))
        else:
            for _ in range(most - least):
                state = self._new()
                self._free[state] = ("", (self._add(inner, entry), after))
                entry = state
        for _ in range(least):
            entry = self._add(inner, entry)
        return entry

    def fullmatch(self, text: str) -> bool:
        """Whether the pattern matches all of ``text``."""
        states = self._start
        for place in range(len(text) + 1):
            before = text[place - 1] if place else ""
            following = text[place] if place < len(text) else ""
            closed = self._closure(states, _context(before, following))
            if not following:
                return 0 in closed
            states = self._step(closed, following)
            if not states:
                return False
        return False

    def _closure(self, states: frozenset[int], context: str) -> frozenset[int]:
        """All states that are reached without a character."""
        key = (states, context)
        known = self._closures.get(key)
        if known is not None:
            return known
        found, queue = set(states), list(states)
        while queue:
            condition, targets = self._free.get(queue.pop(), ("", ()))
            if condition and condition not in context.split(","):
                continue
            new = [t for t in targets if t not in found]
            found.update(new)
            queue += new
        if len(self._closures) > MAX_CACHED:
            self._closures = {}
        result = self._closures[key] = frozenset(found)
        return result

    def _step(self, states: frozenset[int], c: str) -> frozenset[int]:
        key = (states, c)
        found = self._steps.get(key)
        if found is None:
            moves = (self._sets[s] for s in states if s in self._sets)
            found = frozenset(after for takes, after in moves if takes(c))
            if len(self._steps) > MAX_CACHED:
                self._steps = {}
            self._steps[key] = found
        return found


def _context(before: str, following: str) -> str:
    """The assertions that hold between two characters, of which the ends have none."""
    held = ["word" if (before != "" and _is_word(before)) != (following != "" and _is_word(following)) else "inside"]
    if not before:
        held.append("begin")
    if not following:
        held.append("end")
    if before in ("", "\n"):
        held.append("line begin")
    if following in ("", "\n"):
        held.append("line end")
    return ",".join(held)
