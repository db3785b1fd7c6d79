"""Formulas as they are written in docstrings, ``S = (D + Q)^-1 x/2``, as MathML, which browsers set without any library.

* Factors side by side are multiplied. A fraction takes all of them on the left of ``/`` and one on the right, a function with its
  arguments: ``lr H/(2 B) x`` is (lr H/2B) x. Parentheses around a whole denominator, exponent or index fall away, and so do braces.
* ``_`` and ``^`` take a number, a name or what is in parentheses, with a sign before it; fractions there keep their slash.
* Names of Greek letters, ``inf``, ``int``, ``sum``, ``grad`` are signs; ``sqrt(...)`` is a root; other names of several letters are
  upright; ``dt`` is a differential.
* ``<x>`` is an average and ``|x|`` a modulus, without spaces inside; relations have spaces on both sides. ``"words"`` are words.
"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

__all__ = ["mathml"]

GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho ? sigma tau upsilon phi chi psi omega"
)
SIGNS = {name: chr(ord("α") + k) for k, name in enumerate(GREEK.split())}
SIGNS |= {name.capitalize(): sign.upper() for name, sign in SIGNS.items()}
SIGNS |= {"inf": "∞", "grad": "∇", "partial": "∂", "ell": "ℓ"}
LARGE = {"int": "∫", "sum": "∑"}
OPERATORS = {"->": "→", "<=": "≤", ">=": "≥", "!=": "≠", "+-": "±", "...": "…", "-": "−", "*": "·", "~": "∼"}
OPERATORS |= {sign: sign for sign in "/+=,;:<>"}
CLOSING = {"(": ")", "[": "]", "{": "}", "|": "|", "⟨": "⟩"}
TOKEN = re.compile(
    r'(?P<space>\s*)(?:"(?P<words>[^"]*)"|(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z]+)'
    r"|(?P<open><(?=\S)(?!=))|(?P<close>(?<=[^\s-])>(?!=))|(?P<sign>->|<=|>=|!=|\+-|\.\.\.|[-+*/^_'()\[\]{}|,;:=~<>]))"
)


def mathml(text: str) -> list[Element]:
    """One line of a formula as elements ``math``: its parts end with a comma or colon, where a narrow page may break.

    Raises
    ------
    ValueError
        If the line cannot be read; the message says where.

    Examples
    --------
    >>> from xml.etree.ElementTree import tostring
    >>> [tostring(part).decode() for part in mathml("x^2/2, y")][0]
    '<math display="block"><mfrac><msup><mi>x</mi><mn>2</mn></msup><mn>2</mn></mfrac><mo>,</mo></math>'
    """
    made = [Element("math", {"display": "block"})]
    for child in _Reader(text).whole():
        made[-1].append(child)
        if child.tag == "mo" and child.text in (",", ":"):
            made.append(Element("math", {"display": "block"}))
    return [part for part in made if len(part)]


class _Reader:
    """Tokens (kind, text, whether a space is before it) of one line, and the place of the next."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.next, at = text, list[tuple[str, str, bool]](), 0, 0
        self.small = False  # in an index or exponent
        text = text.rstrip()
        while at < len(text):
            found = TOKEN.match(text, at)
            if not found:
                raise ValueError(f"formula {self.text!r}: {text[at:].lstrip()[0]!r} cannot be read at character {at + 1}")
            kind = str(found.lastgroup)
            value = {"open": "⟨", "close": "⟩"}.get(kind, found[kind])
            self.tokens.append(("sign" if kind in ("open", "close") else kind, value, bool(found["space"])))
            at = found.end()

    def whole(self) -> list[Element]:
        made = self.sequence("")
        if self.next < len(self.tokens) or not made:
            raise ValueError(f"formula {self.text!r}: {self.sign() or 'nothing'!r} has no place at part {self.next + 1}")
        return made

    def sign(self) -> str:
        """The next token if it is a sign, else nothing."""
        kind, value, _ = self.tokens[self.next] if self.next < len(self.tokens) else ("", "", False)
        return value if kind == "sign" else ""

    def take(self) -> str:
        self.next += 1
        return self.tokens[self.next - 1][1]

    def sequence(self, end: str) -> list[Element]:
        """Products, fractions and operators up to the sign `end`, or to the end."""
        made, product = list[Element](), list[Element]()
        while self.next < len(self.tokens) and (not end or self.sign() != end):
            sign = self.sign()
            if sign == "/" and not self.small:
                if not product:
                    raise ValueError(f"formula {self.text!r}: nothing stands before '/'")
                self.take()
                made.append(_node("mfrac", _bare(_row(product)), self.below()))
                product = []
            elif sign in OPERATORS:
                first = not product and (not made or made[-1].tag == "mo")
                made += [*product, _leaf("mo", OPERATORS[self.take()], **({"form": "prefix"} if first else {}))]
                product = []
            elif sign and sign not in CLOSING:
                break
            else:
                spaced = self.tokens[self.next][2]
                if spaced and (product or made and made[-1].tag == "mfrac"):
                    product.append(Element("mspace", {"width": "0.2em"}))
                product.append(self.factor())
        return [*made, *product]

    def below(self) -> Element:
        """What a fraction is divided by: a factor, and the arguments of a function."""
        found = [self.factor()]
        while self.sign() in ("(", "[") and not self.tokens[self.next][2]:
            found.append(self.factor())
        return _bare(_row(found))

    def factor(self) -> Element:
        """An atom with its primes, index and exponent."""
        total = self.next < len(self.tokens) and self.tokens[self.next][1] == "sum"
        atom, marks, small = self.atom(), {"_": list[Element](), "^": list[Element]()}, self.small
        while self.sign() in ("'", "_", "^"):
            mark = self.take()
            if mark == "'":
                atom = _node("mrow", atom, _leaf("mo", "′", lspace="0", rspace="0"))
                continue
            self.small, found = True, marks[mark]
            if self.sign() in ("-", "+", "*"):
                found.append(_leaf("mo", "∗" if self.sign() == "*" else OPERATORS[self.sign()]))
                self.take()
            if self.next < len(self.tokens) and (not self.sign() or self.sign() in CLOSING):
                found.append(_bare(self.atom()))
            self.small = small
            if not found:
                raise ValueError(f"formula {self.text!r}: an index or exponent is empty")
        low, high = (_row(found) if found else None for found in marks.values())
        if low is None and high is None:
            return atom
        kind = {(True, False): "msub", (False, True): "msup", (True, True): "msubsup"}[low is not None, high is not None]
        kind = kind.replace("msubsup", "munderover").replace("msub", "munder").replace("msup", "mover") if total else kind
        return _node(kind, atom, *(mark for mark in (low, high) if mark is not None))

    def atom(self) -> Element:
        """A number, a name, words, a root or a pair of brackets with what is in it."""
        if self.next >= len(self.tokens):
            raise ValueError(f"formula {self.text!r}: something is missing at the end")
        kind, value, _ = self.tokens[self.next]
        if kind == "sign" and value not in CLOSING:
            raise ValueError(f"formula {self.text!r}: {value!r} has no place at part {self.next + 1}")
        self.take()
        if kind == "sign":
            inner = _row(self.sequence(CLOSING[value]))
            if self.sign() != CLOSING[value]:
                raise ValueError(f"formula {self.text!r}: {value!r} is not closed")
            self.take()
            if value == "{":
                return inner
            tall = "true" if any(True for tag in ("mfrac", "munder", "munderover") for _ in inner.iter(tag)) else "false"
            ends = _leaf("mo", value, form="prefix", stretchy=tall), _leaf("mo", CLOSING[value], form="postfix", stretchy=tall)
            return _node("mrow", ends[0], inner, ends[1])
        if value == "sqrt" and self.sign() == "(":
            return _node("msqrt", _bare(self.atom()))
        if kind == "name" and re.fullmatch("d[A-Za-z]", value):
            return _node("mrow", _leaf("mi", "d"), _leaf("mi", value[1]))
        tag = {"words": "mtext", "number": "mn"}.get(kind, "mo" if value in LARGE else "mi")
        return _leaf(tag, {**SIGNS, **LARGE}.get(value, value) if kind == "name" else value)


def _bare(made: Element) -> Element:
    """Without the parentheses, where they are around the whole of it."""
    return made[1] if made.tag == "mrow" and len(made) == 3 and (made[0].text, made[2].text) == ("(", ")") else made


def _leaf(tag: str, text: str, **attributes: str) -> Element:
    made = Element(tag, attributes)
    made.text = text
    return made


def _node(tag: str, *children: Element) -> Element:
    made = Element(tag)
    made.extend(children)
    return made


def _row(children: list[Element]) -> Element:
    return children[0] if len(children) == 1 else _node("mrow", *children)
