"""The open elements of a page, and which of them hide their text.

End tags that HTML lets one leave out are implied as its standard says. An element that hides its
text but lacks the end tag it needs hides no more than up to the next block, so that a forgotten
`</nav>` costs no page.
"""

from dataclasses import dataclass, field

from lorabank.retrieval.html_tokens import VOID, Tag

BLOCKS = frozenset(
    """
    address article aside blockquote body caption center dd details dialog div dl dt fieldset
    figcaption figure footer form h1 h2 h3 h4 h5 h6 head header hr html li main menu nav ol p
    pre section summary table tbody tfoot thead tr ul
    """.split()  # noqa: SIM905 - to be read as words
)
"""Elements that begin a block of text."""
_SKIPPED = frozenset(
    """
    script style template noscript svg iframe object select button nav footer dialog
    annotation annotation-xml noembed noframes
    """.split()  # noqa: SIM905 - to be read as words
)
_END_OPTIONAL = frozenset(
    """
    p li dt dd td th tr tbody thead tfoot colgroup caption option optgroup rt rp
    """.split()  # noqa: SIM905 - to be read as words
)
_WITHOUT_TEXT = frozenset(("svg", "iframe", "object"))
_NEVER_HIDDEN = frozenset(("html", "body", "main", "article"))  # shown by a script, as a whole
_CELLS = frozenset(("td", "th", "caption"))
_ENDS_P = BLOCKS - {"caption", "tbody", "tfoot", "thead", "tr", "head"}
# What a start tag ends, if it is open, and the elements that shield what is outside of them.
_IMPLIED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "li": (("li",), ("ul", "ol", "menu")),
    "dt": (("dt", "dd"), ("dl",)),
    "dd": (("dt", "dd"), ("dl",)),
    "tr": (("tr", "td", "th", "caption"), ("table",)),
    "td": (("td", "th"), ("tr", "table")),
    "th": (("td", "th"), ("tr", "table")),
    **dict.fromkeys(
        ("tbody", "thead", "tfoot"), (("tbody", "thead", "tfoot", "tr", "caption"), ("table",))
    ),
    "rt": (("rt", "rp"), ("ruby",)),
    "rp": (("rt", "rp"), ("ruby",)),
    "option": (("option",), ("select",)),
    "body": (("head",), ()),
}
_SHIELDS = ("td", "th", "caption", "table", "template", "object", "button")
_UNSHIELDED = frozenset((*_SHIELDS, "tr", "tbody", "thead", "tfoot", "body", "html"))


@dataclass(slots=True)
class Element:
    """An open element."""

    name: str
    hides: bool = False
    is_shown: bool = True
    """Whether neither it nor an element around it hid its text when it began."""
    n_children: int = 0
    closer: str = ""
    """Text that is written where it ends."""


@dataclass(slots=True)
class OpenElements:
    """The open elements of a page, outermost first."""

    elements: list[Element] = field(default_factory=list)
    n_hiding: int = 0
    """Open elements that hide their text."""
    n_unclosed: int = 0
    """Elements so far that would have hidden the rest of the page, had they been let."""
    _places: dict[str, list[int]] = field(default_factory=dict)
    _unclosed: list[Element] = field(default_factory=list)

    def open(self, tag: Tag) -> list[Element]:
        """Open an element and return those that it ends, innermost first."""
        ended: list[Element] = []
        name = tag.name
        if name in BLOCKS:
            self._reveal()
            if self._place("title") >= 0:
                ended += self._end("title")
            if self._place("svg") > self._place("foreignobject"):
                ended += self._end("svg")  # text of the page cannot be within a drawing
        if name in _ENDS_P and self._place("p") > self._place(*_SHIELDS):
            ended += self._end("p")
        names, shields = _IMPLIED.get(name, ((), ()))
        outer = self._place(*shields)
        places = [place for n in names if (place := self._place(n)) > outer]
        if places:
            ended += self._end_from(min(places))
        if self.elements:
            self.elements[-1].n_children += 1
        if name not in VOID and not tag.is_empty:
            self._push(tag)
        return ended

    def close(self, name: str) -> list[Element]:
        """Return the elements that an end tag ends, innermost first; none if it ends nothing."""
        shield = -1 if name in _UNSHIELDED else self._place(*_SHIELDS)
        return self._end(name) if self._place(name) > shield else []

    def _push(self, tag: Tag) -> None:
        hides = tag.name in _SKIPPED or (tag.name not in _NEVER_HIDDEN and _is_hidden(tag))
        if not tag.is_closed and tag.name in _WITHOUT_TEXT:
            hides = False  # what text it seems to hold is the page's
        element = Element(tag.name, hides)
        self._places.setdefault(tag.name, []).append(len(self.elements))
        self.elements.append(element)
        self.n_hiding += hides
        element.is_shown = not self.n_hiding
        if hides and not tag.is_closed and tag.name not in _END_OPTIONAL:
            self._unclosed.append(element)

    def _reveal(self) -> None:
        for element in self._unclosed:
            self.n_hiding -= element.hides
            self.n_unclosed += element.hides
            element.hides = False
        self._unclosed.clear()

    def _place(self, *names: str) -> int:
        """Return where the innermost open element of these names is; -1 if there is none."""
        return max((places[-1] for n in names if (places := self._places.get(n))), default=-1)

    def _end(self, name: str) -> list[Element]:
        return self._end_from(self._places[name][-1])

    def _end_from(self, place: int) -> list[Element]:
        ended = self.elements[place:][::-1]
        del self.elements[place:]
        for element in ended:
            self._places[element.name].pop()
            self.n_hiding -= element.hides
            element.hides = False
        return ended


def _is_hidden(tag: Tag) -> bool:
    attributes = tag.attributes
    style = "".join(attributes.get("style", "").lower().split())
    return (
        attributes.get("hidden", "until-found").strip().lower() != "until-found"
        or "display:none" in style
        or "visibility:hidden" in style
        or attributes.get("aria-hidden", "").strip().lower() == "true"
    )
