"""The page of a validation run: whole, valid and safe whatever claims say, self-contained, bounded in size; formulas as MathML."""

import base64
import doctest
import importlib
import io
import json
import math
import re
import types
from html.parser import HTMLParser
from pathlib import Path
from xml.etree.ElementTree import tostring

import numpy as np
import pytest

from fpsolve import cli

ROOT = Path(__file__).parent.parent
VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """Elements with attributes, and the text; an element that is closed by another's end is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        assert text.startswith("<!DOCTYPE html>\n")
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(folder: Path) -> Page:
    """The page in a folder, which must be in order whatever is on it."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", text)
    made = Page(text)
    assert made.all("html") == [{"lang": "en"}]
    assert not made.all("script") + made.all("link") + made.all("iframe") + made.all("object")
    places = [attributes["id"] for _, attributes in made.elements if "id" in attributes]
    assert len(set(places)) == len(places)
    for _, attributes in made.elements:
        assert not any(name.startswith("on") for name in attributes)
        link = attributes.get("href", "#legend")
        assert link[1:] in places if link.startswith("#") else link.startswith("https://arxiv.org/abs/")
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style
    levels = [int(tag[1]) for tag, _ in made.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert all(image["alt"] and image["width"] and image["height"] for image in made.all("img"))
    return made


def picture(size: tuple[int, int] = (40, 30), seed: int | None = None) -> bytes:
    """A PNG: black, or noise, which no compression makes smaller."""
    from PIL import Image

    values = np.zeros((*size[::-1], 3), np.uint8)
    if seed is not None:
        values = np.random.default_rng(seed).integers(0, 256, values.shape, np.uint8)
    kept = io.BytesIO()
    Image.fromarray(values).save(kept, "PNG")
    return kept.getvalue()


def claim(validation, name, *, measured=5.5, group="feng-tu", error=None, checks=None, figures=("",), **more):
    """A claim on the mean of 1..10 that leaves figures, and ends as it is told."""

    def run(quick: bool, out: Path, progress: bool) -> list:
        for figure in figures:
            (out / f"{name}{figure}.png").write_bytes(picture())
        if error is not None:
            raise error
        made = [
            validation.Check(
                name=f"mean in {name}", measured=measured, expected=5.5, stderr=0.1, band=(5.0, 6.0), source=f"sum/{name}"
            )
        ]
        return made if checks is None else checks

    about = {"CLAIM": "The mean is (n + 1)/2.", "STANDING": "derived", "EQUATION": "m = (n + 1)/2", **more}
    return types.SimpleNamespace(NAME=name, GROUP=group, run=run, **about)


def go(validation, claims, out: Path) -> int:
    return validation.run(claims, quick=True, out=out, progress=False)


def test_everything_is_on_the_page(validation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/lib/fpsolve/__main__.py", "validate", "a b"])
    claims = [
        claim(validation, "one"),
        claim(validation, "two", group="xie", STANDING="recalled", EQUATION=""),
        claim(validation, "three", group="other"),
    ]
    assert go(validation, claims, tmp_path) == 0
    page = read(tmp_path)
    for part in (
        "3 claims, 3 checks: all passed",
        "quick run",
        "Feng and Tu",
        "arXiv:2001.01678",
        "docs/feng-tu.md",
        "The mean is (n + 1)/2.",
        "Recalled",
    ):
        assert part in page.text
    for name in ("one", "two", "three"):
        assert f"mean in {name}" in page.text and f"sum/{name}" in page.text
        assert page.text.count(f"{name}.png") == 1
    assert "5.5 ± 0.1" in page.text and "5 … 6" in page.text and "50 %" in page.text
    record = json.loads((tmp_path / "validation.json").read_text())
    for part in (record["provenance"]["versions"]["numba"], record["provenance"]["platform"], "fpsolve validate 'a b'"):
        assert part in page.text
    images = [base64.b64decode(image["src"].split(",")[1]) for image in page.all("img")]
    assert images == [picture()] * 3
    assert len(page.all("math")) == 2
    assert "FAILED" not in page.text and "✗" not in page.text


def test_failures_are_shown_and_counted(validation, tmp_path: Path) -> None:
    broken = claim(validation, "broken", error=ValueError("no convergence in \x1b[31m3\x00 steps"), figures=())
    claims = [
        claim(validation, "good"),
        claim(validation, "bad", measured=6.5),
        claim(validation, "lost", measured=math.nan),
        broken,
    ]
    claims.append(claim(validation, "empty", checks=[]))
    assert go(validation, claims, tmp_path) == 1
    page = read(tmp_path)
    assert "5 claims, 3 checks: 4 failed" in page.text
    assert "Failed: bad , lost , broken , empty ." in page.text
    assert "1 of 5 passed" in page.text
    assert "0 of 1 check passed; least room −50 %: mean in bad" in page.text
    assert "ValueError: no convergence in \ufffd[31m3\ufffd steps" in page.text
    assert "the claim made no check" in page.text
    assert page.text.count("✗ FAILED") == 6  # four claims, two checks
    assert sum(attributes.get("class") == "claim failed" for attributes in page.all("section")) == 4


def test_numbers_of_narrow_bands_can_be_told_apart(validation, tmp_path: Path) -> None:
    check = validation.Check(name="narrow", measured=34.58314155, expected=34.583141, band=(34.583140, 34.583142))
    assert go(validation, [claim(validation, "one", checks=[check])], tmp_path) == 0
    text = read(tmp_path).text
    assert "34.58314 … 34.583142" in text and "34.58314155" in text


def test_many_claims_are_folded_unless_they_failed(validation, tmp_path: Path) -> None:
    claims = [claim(validation, f"c{k}", measured=9.0 if k == 3 else 5.5) for k in range(11)]
    assert go(validation, claims, tmp_path) == 1
    assert sum("open" in attributes for attributes in read(tmp_path).all("details")) == 1


def test_text_stays_text(validation, tmp_path: Path) -> None:
    evil = "</style></pre><script>alert('\"&amp;')</script><img src=x onerror=alert(1)>"
    check = validation.Check(name=evil, measured=1.0, expected=1.0, band=(1.0, 1.0), source=evil)
    one = claim(validation, "one", CLAIM=evil, EQUATION=f'"{evil.replace(chr(34), "")}"', checks=[check])
    assert go(validation, [one, claim(validation, 'a"><br>', error=RuntimeError(evil), group="<i>", figures=())], tmp_path) == 1
    page = read(tmp_path)
    assert page.text.count(evil) == 4  # claim, check, source, error
    assert not page.all("i") + page.all("br")


def test_an_interrupted_run_leaves_what_was_done(validation, tmp_path: Path) -> None:
    claims = [claim(validation, "done"), claim(validation, "ends", error=KeyboardInterrupt()), claim(validation, "never")]
    with pytest.raises(KeyboardInterrupt):
        go(validation, claims, tmp_path)
    page = read(tmp_path)
    assert "1 claim, 1 check: all passed; unfinished: 2 claims not run" in page.text
    assert "✗ 1 claim" in page.text
    assert "Not run: ends, never." in page.text
    record = json.loads((tmp_path / "validation.json").read_text())
    assert record["finished"] is False and record["passed"] is False
    assert [found["name"] for found in record["claims"]] == ["done"] and record["pending"] == ["ends", "never"]
    assert not list(tmp_path.glob("*.tmp"))
    assert cli.main(["validate", "--report", str(tmp_path)]) == 1


def test_the_page_is_not_made_after_every_claim(validation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer the more claims it has; a kill leaves the record, and the page of the first claims."""
    report = importlib.import_module("fpsolve_validation._report")
    monkeypatch.setattr(report, "SELDOM", 1e9)
    many = [claim(validation, name) for name in "abc"]
    seen = report.Report(tmp_path, many, quick=True, jobs=1)
    for one in many[:2]:
        seen.add(validation.Outcome(one, one.run(True, tmp_path, False), "", 0.1))
    assert [c["name"] for c in json.loads((tmp_path / "validation.json").read_text())["claims"]] == ["a", "b"]
    assert "claim-a" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    seen.add(validation.Outcome(many[2], many[2].run(True, tmp_path, False), "", 0.1))
    assert all(f"claim-{name}" in (tmp_path / "report.html").read_text(encoding="utf-8") for name in "abc")


def test_figures_belong_to_the_longest_name_and_to_this_run(validation, tmp_path: Path) -> None:
    for stale in ("a-old", "a-b-old", "unnamed"):
        (tmp_path / f"{stale}.png").write_bytes(picture())
    (tmp_path / "a.txt").write_text("stale")
    claims = [claim(validation, "a", figures=("", "-1")), claim(validation, "a-b", figures=("-2",)), claim(validation, "ab")]
    go(validation, claims, tmp_path)
    record = json.loads((tmp_path / "validation.json").read_text())
    assert [found["figures"] for found in record["claims"]] == [["a-1.png", "a.png"], ["a-b-2.png"], ["ab.png"]]
    assert [found["texts"] for found in record["claims"]] == [[], [], []]


def test_sizes_are_bounded(validation, tmp_path: Path) -> None:
    from PIL import Image

    from fpsolve_validation import _elements as elements

    loud = claim(validation, "loud", figures=(), error=ValueError("x" * 10**6))
    before = loud.run

    def run(quick: bool, out: Path, progress: bool) -> list:
        (out / "loud.png").write_bytes(picture((450, 300), seed=1))
        (out / "loud.txt").write_text("1 2 3\n" * 10**5)
        return before(quick, out, progress)

    loud.run = run
    go(validation, [loud], tmp_path)
    page = read(tmp_path)
    data = base64.b64decode(page.all("img")[0]["src"].split(",")[1])
    assert len(data) <= elements.FIGURE < (tmp_path / "loud.png").stat().st_size
    with Image.open(io.BytesIO(data)) as small:
        assert small.size == (int(page.all("img")[0]["width"]), int(page.all("img")[0]["height"]))
        assert small.width / small.height == pytest.approx(1.5, rel=0.01)
    assert (tmp_path / "report.html").stat().st_size < 4 / 3 * elements.FIGURE + 3 * elements.TEXT + 20_000
    assert "characters left out" in page.text


def test_the_page_is_made_again_from_the_record(validation, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go(validation, [claim(validation, "one", figures=("", "-2"))], tmp_path)
    first = (tmp_path / "report.html").read_bytes()
    (tmp_path / "report.html").unlink()
    for given in (tmp_path, tmp_path / "validation.json"):
        assert cli.main(["validate", "--report", str(given)]) == 0
        assert (tmp_path / "report.html").read_bytes() == first
    (tmp_path / "one.png").unlink()
    (tmp_path / "one-2.png").write_bytes(picture()[:60])
    assert cli.main(["validate", "--report", str(tmp_path)]) == 0
    assert read(tmp_path).text.count("cannot be shown") == 2
    capsys.readouterr()
    for wrong in ("{}", "[]", "no json", '{"claims": [{}], "quick": true}'):
        (tmp_path / "validation.json").write_text(wrong)
        assert cli.main(["validate", "--report", str(tmp_path)]) == 2
        assert "is not the record of a validation run" in capsys.readouterr().err
    assert cli.main(["validate", "--report", str(tmp_path / "nowhere.json")]) == 2
    assert cli.main(["validate", "one", "--report", str(tmp_path)]) == 2
    assert "leave out one" in capsys.readouterr().err


def test_groups_of_claims_have_their_paper_and_page(validation) -> None:
    from fpsolve_validation._groups import GROUPS

    assert {found.GROUP for found in validation.discover()} == set(GROUPS)
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "CITATION.cff", *(ROOT / "docs").glob("*.md")))
    for group in GROUPS.values():
        assert (ROOT / group.page).exists() and group.says.endswith(".")
        for _, number in group.papers:
            assert f"arXiv:{number}" in pages


def test_most_claims_have_an_equation_and_a_docstring(validation) -> None:
    claims = validation.discover()
    assert sum(bool(getattr(found, "EQUATION", "")) for found in claims) > 0.9 * len(claims)
    assert all(found.__doc__ for found in claims)


# ---- formulas ------------------------------------------------------------------------------------------------------


def formula(text: str) -> str:
    """MathML without what is only layout, and letters for the long names of elements."""
    from fpsolve_validation._formula import mathml

    made = "".join(tostring(part, encoding="unicode") for part in mathml(text))
    made = re.sub(r'<mspace[^>]*/>|<(/?)math[^>]*>| (form|stretchy|lspace|rspace)="[^"]*"', "", made)
    return re.sub(r"<(mi|mn|mo|mtext)>([^<]*)</\1>", r"\2 ", made).replace(" <", "<").strip()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a b/c d", "<mfrac><mrow>a b</mrow>c</mfrac>d"),
        ("a + b/(2 c)", "a + <mfrac>b<mrow>2 c</mrow></mfrac>"),
        ("(a + b)/2", "<mfrac><mrow>a + b</mrow>2</mfrac>"),
        ("1/f(x)", "<mfrac>1<mrow>f<mrow>( x )</mrow></mrow></mfrac>"),
        ("e^(-a/b)", "<msup>e<mrow>− a / b</mrow></msup>"),
        ("x_i^-psi", "<msubsup>x i<mrow>− ψ</mrow></msubsup>"),
        ("L_0' = t^*", "<msub><mrow>L ′</mrow>0</msub>= <msup>t ∗</msup>"),
        ("sqrt(2 D) dW", "<msqrt><mrow>2 D</mrow></msqrt><mrow>d W</mrow>"),
        ("<x> < 2", "<mrow>⟨ x ⟩</mrow>< 2"),
        ("|f|/2 -> inf", "<mfrac><mrow>| f |</mrow>2</mfrac>→ ∞"),
        ("sum_(i<=k) ln lambda_i", "<munder>∑<mrow>i ≤ k</mrow></munder>ln <msub>λ i</msub>"),
        ("int_a^b Gamma", "<msubsup>∫ a b</msubsup>Γ"),
        ('"where" x > 1', "where x > 1"),
    ],
)
def test_formulas(text: str, expected: str, validation) -> None:
    def plain(made: str) -> str:
        return re.sub(r"\s*(</?m\w+>)\s*", r"\1", made.replace("&lt;", "<").replace("&gt;", ">"))

    assert plain(formula(text)) == plain(expected)


@pytest.mark.parametrize("text", ["", "(a", "a)", "/2", "a/", "x_", "a^/", "|x", "a $ b", "{a", '"a', "<x + 1"])
def test_formulas_that_cannot_be_read(text: str, validation) -> None:
    with pytest.raises(ValueError, match="formula"):
        formula(text)
    wrong = claim(validation, "wrong", EQUATION=f"x = 1\n{text or '='}")
    if text:
        with pytest.raises(ValueError, match="formula"):
            validation.check_claim(wrong, "wrong")


def test_room_is_a_distance_in_widths(validation) -> None:
    from fpsolve_validation._bands import room

    def of(measured, low, high, expected=1.0):
        return room({"measured": measured, "expected": expected, "band": [low, high]})

    assert of(0.75, 0.5, 1.5) == 0.25 == of(1.25, 0.5, 1.5)
    assert of(0.25, 0.5, 1.5) == -0.25 == of(1.75, 0.5, 1.5)
    assert of(2.0, "-inf", 3.0) == 0.5 and of(4.0, "-inf", 3.0) == -0.5
    assert of(0.5, 0.0, "inf") == 0.5
    assert of(0.0, 0.0, 4.0, expected=0.0) == 1.0 and of(-1.0, 0.0, 4.0, expected=0.0) == -0.25
    assert all(
        math.isnan(of(*numbers)) for numbers in ((1.0, 1.0, 1.0), (1.0, "-inf", "inf"), ("nan", 0.0, 2.0), (2.0, 1.0, "inf"))
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_text_can_be_read(scheme: str, validation) -> None:
    """Contrast of 4.5 and more (WCAG 2, AA) of every colour of text on every background that it is on."""
    from fpsolve_validation._style import CSS

    first, second = CSS.split("@media (prefers-color-scheme: dark)")
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]+)", first if scheme == "light" else second))

    def luminance(name: str) -> float:
        value = colours[name].lstrip("#")
        value = value if len(value) == 6 else "".join(2 * digit for digit in value)
        parts = (int(value[k : k + 2], 16) / 255 for k in (0, 2, 4))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    for text in ("text", "soft", "good", "bad", "link"):
        for back in ("back", "card"):
            low, high = sorted((luminance(text), luminance(back)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, back)


@pytest.mark.parametrize("module", ["_bands", "_elements", "_formula"])
def test_examples_of_the_page(module: str, validation) -> None:
    found = doctest.testmod(importlib.import_module(f"fpsolve_validation.{module}"))
    assert found.attempted and not found.failed
