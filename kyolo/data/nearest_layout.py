"""What to rename, unpack or add where a path holds no data set that a reader knows."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kyolo.data.images import OTHER_SUFFIXES, SUFFIXES
from kyolo.data.sources import find_files
from kyolo.errors import to_line

ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")
MAX_NAMES = 6  # of what is found
LABELS = (".json", ".txt", ".csv", ".yaml", ".yml")


def describe_no_folder(path: Path) -> str:
    """Return the error for a data set that is no folder."""
    if not path.exists():
        return f"{path}: expected the folder of a data set, found nothing there. Correct the path."
    if path.name.lower().endswith(ARCHIVES):
        return f"{path}: expected the folder of a data set, got an archive. Unpack it and pass the folder."
    above = path.parent.parent if path.parent.name.lower() == "annotations" else path.parent
    return f"{path}: expected the folder of a data set, got a file. Pass {above}."


def describe_no_set(folder: Path, layouts: Sequence[str]) -> str:
    """Return the error for a folder that no reader knows, with the one thing to do.

    Args:
        folder: the folder.
        layouts: what the readers look for, in a few words each.
    """
    names = sorted(to_line(path.name) for path in folder.iterdir() if not path.name.startswith("."))
    found = ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "") or "nothing"
    head = f"{folder}: expected {' or '.join(layouts)}, found {found:.300}."
    return f"{head} {_advise(folder, names)}"


def _advise(folder: Path, names: Sequence[str]) -> str:
    """Return the sentence that says what to do, by the layout that is nearest."""
    archive = next((name for name in names if name.lower().endswith(ARCHIVES)), None)
    if archive is not None:
        return f"Unpack {archive} and pass its folder."
    inner = next((path for path in sorted(folder.iterdir()) if path.is_dir() and _looks_like_a_set(path)), None)
    if inner is not None:
        return f"Pass {to_line(str(inner))}."
    counts = Counter(path.suffix.lower() for path in find_files(folder, (*SUFFIXES, *OTHER_SUFFIXES, *LABELS)))
    images = sum(counts[suffix] for suffix in SUFFIXES)
    if counts[".txt"] and images:
        return "Add data.yaml with train: (the folder of images) and names: (the classes), or classes.txt."
    if counts[".json"]:
        return "Name the COCO json annotations/instances_train.json, with the lists images, annotations and categories."
    if counts[".yaml"] + counts[".yml"]:
        return "Rename the YAML that lists train, val and names to data.yaml."
    if counts[".csv"]:
        return "Export the annotations as COCO, YOLO or Pascal VOC instead of CSV."
    if images:
        return f"Add the annotations of the {images} images."
    return "Pass the folder that holds images and annotations."


def _looks_like_a_set(folder: Path) -> bool:
    """Return whether a folder below the one that was given holds what a reader begins with."""
    names = {path.name.lower() for path in folder.iterdir()}
    return bool(
        names & {"data.yaml", "data.yml", "dataset.yaml", "annotations", "imagesets", "obj.data", "tfrecord.json"}
    )
