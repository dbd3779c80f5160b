"""Files of data sets that are nearly right, as Hypothesis strategies: the right structure with a mistake or several."""

import json

import hypothesis
import hypothesis.strategies as st

BIG = "9" * 4000  # Python reads whole numbers of up to 4300 digits.
NUMBERS = ("nan", "NaN", "inf", "-inf", "1e400", "-1", "-0.0", "0", "1e-30", "1e30", "0.5", "1", "7", "2147483648")
NUMBERS += ("9007199254740993", "9223372036854775808", BIG, "-" + BIG, BIG + BIG, "0x10", "1_0", "\uff11", ".", "")
TEXTS = (
    "",
    " ",
    "\n",
    "a\nb",
    "\x00",
    "\x85",
    "\u2028",
    "\ufeff",
    "\x1b[31m",
    "é",
    "\U0001f600",
    "x" * 300,
    "x" * 5000,
)
TEXTS += ("../../etc/passwd", "/etc/passwd", "..", ".", "/", "~", "a.png", "a.png/", "b.png", "C:\\a.png", "a\x00.png")
BYTES = (
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\r",
    b"\xed\xa0\x80",
    b"\xc3",
    b"\n",
    b" ",
    b'"',
    b"<",
    b"{",
    b"&",
)

# JSON texts that may stand anywhere.
JSON_VALUES = ("NaN", "Infinity", "-Infinity", "1e400", "-1", "0", "1", "2", "1.0", "1e-30", "true", "null", "[]", "{}")
JSON_VALUES += (
    "2147483647",
    "9007199254740993",
    "9223372036854775808",
    BIG,
    "-" + BIG,
    BIG + BIG,
    "[[1]]",
    '{"id": 1}',
)
JSON_VALUES += ('"1"', r'"\ud800"', r'"a\nb"', r'"\u0000"', r'"\u2028"', "[" * 400 + "]" * 400, "[" * 970 + "]" * 970)
JSON_VALUES += tuple(json.dumps(text) for text in TEXTS)

YAML_VALUES = (
    "[]",
    "{}",
    "~",
    "null",
    "yes",
    "[a, a]",
    "[yes, no]",
    "{0: a, 1: b}",
    "{1: a}",
    "[[a]]",
    "{a: [b]}",
    "[[",
)
YAML_VALUES += (
    "&x [*x]",
    "*x",
    "&x a",
    "!!python/object/apply:os.system [ls]",
    "!!int a",
    "!x y",
    r'"\ud800"',
    r'"a\nb"',
)
YAML_VALUES += (
    r'"\0"',
    r'"\U00110000"',
    "|\n  a\n  b",
    "? a",
    "x" * 5000,
    "[" + "a, " * 3000 + "]",
    "[" * 300,
    "{a: " * 150,
)
YAML_VALUES += (
    "train/images",
    "../train/images",
    "/train/images",
    "..",
    "/",
    "list.txt",
    "data.yaml",
    "train/labels",
    BIG,
)
YAML_BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
)

XML_VALUES = (
    "<!-- a -->",
    "<![CDATA[cell]]>",
    "<?a b?>",
    "&#0;",
    "&#xD800;",
    "&#133;",
    "&amp;",
    "&x;",
    "a&#10;b",
    "]]>",
)
XML_VALUES += ("<a>" * 20 + "</a>" * 20, "<name>cell</name>", "<bndbox/>", "<!DOCTYPE a>", "\ufffe", "x" * 5000)
XML_HEADS = ("<?xml version='1.0'?>", "<?xml version='1.0' encoding='utf-7'?>", "<?xml version='1.0' encoding='idna'?>")
XML_HEADS += ("<?xml version='1.0' encoding='rot13'?>", "<?xml version='1.0' encoding='utf-16'?>", "\ufeff", "\n", "")
XML_HEADS += ("<!DOCTYPE a [<!ENTITY x 'y'>]>", "<!DOCTYPE a SYSTEM 'file:///etc/passwd'>", "<?xml version='9'?>")


def damages(most=3):
    """Functions that flip some bits, put bytes in, double or leave out some, or cut the rest off."""
    kinds = st.sampled_from(("flip", "put in", "double", "leave out", "cut off"))
    steps = st.lists(st.tuples(kinds, st.floats(0, 1), st.integers(1, 20), st.sampled_from(BYTES)), max_size=most)

    def damage(content, steps):
        data = bytearray(content)
        for kind, where, length, piece in steps:
            place = int(where * len(data))
            end = place + length
            if kind == "flip":
                data[place:end] = bytes(byte ^ 1 << length % 8 for byte in data[place:end])
            elif kind == "put in":
                data[place:place] = piece
            elif kind == "double":
                data[place:place] = data[place:end]
            else:
                del data[place : end if kind == "leave out" else None]
        return bytes(data)

    return steps.map(lambda drawn: lambda content: damage(content, drawn))


def damaged(texts, most=1):
    """Texts as bytes, damaged."""
    return st.builds(lambda text, damage: damage(text.encode("utf-8", "surrogatepass")), texts, damages(most))


@st.composite
def coco_texts(draw):
    """COCO json of a.png, 40 wide and 20 high, in which values are replaced, doubled, or missing."""
    content = {
        "images": [{"id": i, "file_name": name, "width": 40, "height": 20} for i, name in ((1, "a.png"), (2, "b.png"))],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": i % 2 + 1, "bbox": [i, 2, 10.5, 4], "area": 42.0, "iscrowd": i // 4}
            for i in range(1, 5)
        ],
        "categories": [{"id": i, "name": name, "supercategory": "none"} for i, name in ((1, "cell"), (2, "wall"))],
    }
    values = []
    for _ in range(draw(st.integers(0, 4))):
        places = _places(content)
        if not places:  # all was deleted
            break
        holder, key = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(("replace", "replace", "replace", "delete", "double")))
        if kind == "replace":
            values.append(draw(st.sampled_from(JSON_VALUES)))
            holder[key] = f"@{len(values) - 1}@"
        elif kind == "delete":
            del holder[key]
        elif isinstance(holder, list):
            holder.append(holder[key])
    text = json.dumps(content)
    for number, value in enumerate(values):
        text = text.replace(f'"@{number}@"', value)
    return text


def _places(tree):
    """Every (container, key) in a tree of dicts and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for key, value in items for place in ((tree, key), *_places(value))]


@st.composite
def yolo_texts(draw):
    """Label files: rows with mostly good columns, now and then too many or too few of them."""
    good = st.sampled_from(("0.5", "0.25", "0.1", "1", "0", "5e-1", "0.999999999"))
    column = st.one_of(good, good, good, good, st.sampled_from(NUMBERS + TEXTS))
    label = st.one_of(st.sampled_from(("0", "1", "0", "1.0")), st.sampled_from(NUMBERS))
    counts = st.sampled_from((4, 4, 4, 4, 6, 8, 0, 1, 3, 5, 7, 400))
    rows = [
        " ".join([draw(label), *draw(st.lists(column, min_size=count, max_size=count))])
        for count in draw(st.lists(counts, max_size=4))
    ]
    return draw(st.sampled_from(("\n", "\r\n", "\r", "\n\n", "\u2028"))).join(rows)


@st.composite
def yaml_texts(draw):
    """data.yaml with other values for some keys."""
    content = {"path": ".", "train": "train/images", "val": "train/images", "nc": "2", "names": "[cell, wall]"}
    for key in draw(st.lists(st.sampled_from(sorted(content)), max_size=3)):
        content[key] = draw(st.sampled_from(YAML_VALUES + tuple(json.dumps(text) for text in TEXTS)))
    for key in draw(st.lists(st.sampled_from(sorted(content)), max_size=1)):
        del content[key]
    text = "".join(f"{key}: {value}\n" for key, value in content.items())
    if draw(st.integers(0, 9)) == 0:
        text = YAML_BOMB + text.replace("[cell, wall]", draw(st.sampled_from(("*a9", "[*a9]", "{0: *a9}"))))
    return text


@st.composite
def voc_texts(draw):
    """XML of a.png with other numbers and names, and with elements doubled or missing."""
    plain = st.sampled_from(NUMBERS + TEXTS + XML_VALUES)

    def element(tag, value):
        kind = draw(st.integers(0, 19))
        if kind < 3:
            value = draw(plain)
        text = f"<{tag}>{value}</{tag}>"
        return {3: "", 4: text + text, 5: f"<{tag}/>", 6: f"<{tag} a='1' a='2'>{value}</{tag}>"}.get(kind, text)

    objects = []
    for i in range(draw(st.integers(0, 3))):
        sides = zip(("xmin", "ymin", "xmax", "ymax"), (1 + i, 2, 11, 12), strict=True)
        box = element("bndbox", "".join(element(side, value) for side, value in sides))
        objects.append(element("object", element("name", "cell") + box + element("difficult", i // 2)))
    size = element("size", element("width", 40) + element("height", 20))
    head = draw(st.sampled_from(XML_HEADS)) if draw(st.integers(0, 4)) == 0 else ""
    return head + element("annotation", "\n".join([size, *objects]))


def lists():
    """Lists of names, one a line: ImageSets, labels.txt, image lists."""
    names = ("a", "b", "cell", "wall", "train/images/a.png", "./a.png", "a 1", "a -1", "# a")
    line = st.one_of(st.sampled_from(names), st.sampled_from(names + TEXTS + NUMBERS))
    return st.tuples(st.lists(line, max_size=5), st.sampled_from(("\n", "\r\n", "\r"))).map(
        lambda drawn: drawn[1].join(drawn[0])
    )


def run(check, *strategies, examples, shrink=True):
    """Checks that many examples, the same ones every time; `shrink` looks for a smaller one that fails too."""
    phases = [phase for phase in hypothesis.Phase if shrink or phase is hypothesis.Phase.generate]
    settings = hypothesis.settings(
        phases=phases,
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )

    @settings
    @hypothesis.given(st.tuples(*strategies))
    def test(drawn):
        check(*drawn)

    test()
