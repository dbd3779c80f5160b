"""XML as annotation tools write it: elements with the lines that they begin in, and nothing that could do harm."""

from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from kyolo.data.sources import read_bytes
from kyolo.errors import InputError

MAX_BYTES = 2 * 1024 * 1024
MAX_DEPTH = 16


@dataclass(slots=True)
class Element:
    """One element.

    Attributes:
        tag: its name.
        line: where it begins, from 1.
        text: the text in it, its children's not included, without spaces around.
        children: in order.
    """

    tag: str
    line: int
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def find(self, path: str) -> "Element | None":
        """The first element of a path such as "size/width", or None."""
        tag, _, rest = path.partition("/")
        child = next((child for child in self.children if child.tag == tag), None)
        return child.find(rest) if child is not None and rest else child

    def find_text(self, path: str) -> str | None:
        """The text of the first element of a path; None where there is no such element."""
        found = self.find(path)
        return None if found is None else found.text


def read_xml(file: Path) -> Element:
    """Reads a file.

    Document types are refused, and with them all entities that a file defines: a few lines of those can name other
    files, or grow to gigabytes.

    Raises:
        InputError: it cannot be read, is no XML, has a document type, or is far larger or deeper than annotations are.
    """
    content = read_bytes(file, MAX_BYTES)
    parser, root = expat.ParserCreate(), Element("", 0)
    parser.buffer_text = True
    path, texts = [root], [[]]  # from the root to the element that is open, and the pieces of text in each

    def start(tag: str, attributes: dict) -> None:  # noqa: ARG001 (expat's signature)
        if len(path) > MAX_DEPTH:
            raise InputError(f"{file}:{parser.CurrentLineNumber}: expected {MAX_DEPTH} levels at most, received more")
        element = Element(tag, parser.CurrentLineNumber)
        path[-1].children.append(element)
        path.append(element)
        texts.append([])

    def end(tag: str) -> None:  # noqa: ARG001
        path.pop().text = "".join(texts.pop()).strip()

    def add_text(text: str) -> None:
        texts[-1].append(text)

    def refuse(*_: object) -> None:
        raise InputError(f"{file}:{parser.CurrentLineNumber}: expected XML without a document type, received one")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = add_text, refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise InputError(f"{file}:{error.lineno}: expected XML, received a mistake: {reason}") from error
    except (LookupError, ValueError) as error:  # an encoding that Python does not know
        raise InputError(f"{file}: expected XML in UTF-8, received a mistake: {error}") from error
    return root.children[0]
