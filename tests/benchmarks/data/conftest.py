"""Small data sets of real photographs, made of the two that scikit-learn has."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from antiparallel.benchmarks.data.coco import Coco, open_coco
from antiparallel.benchmarks.data.transforms import Preprocessing

SIZE = 160
CANVAS = Preprocessing(SIZE, SIZE, "flip")
LIST = "annotations/instances_train2017.json"
CLASSES = ("flower", "temple")


def photograph(label: int, number: int, size: tuple[int, int] = (60, 44)) -> Image.Image:
    """Return a part of a photograph, another one for each number."""
    pixels = load_sample_images().images[1 - label]
    return (
        Image.fromarray(pixels)
        .crop((number * 7, number * 5, number * 7 + 240, number * 5 + 180))
        .resize(size)
    )


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def write_tree(root: Path, train: int = 9, validation: int = 4) -> Path:
    """Write a data set of two classes."""
    for split, count in (("train", train), ("val", validation)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                offset = number if split == "train" else number + 20
                (folder / f"{number:03d}.JPEG").write_bytes(encoded(photograph(label, offset)))
    return root


def zipped(root: Path) -> None:
    """Replace both splits' folders by zip files."""
    for split in ("train", "val"):
        with zipfile.ZipFile(root / f"{split}.zip", "w") as archive:
            for path in sorted((root / split).rglob("*.JPEG")):
                archive.write(path, path.relative_to(root / split))
                path.unlink()
        for folder in (root / split).iterdir():
            folder.rmdir()
        (root / split).rmdir()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "pictures")


@pytest.fixture(scope="session")
def shared_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set that tests only read."""
    return write_tree(tmp_path_factory.mktemp("data") / "pictures")


def replaced(tree: Path, content: bytes, name: str = "train/flower/003.JPEG") -> str:
    """Put other content in a picture's place."""
    (tree / name).write_bytes(content)
    return name


def noise(size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)


def write_coco(root: Path, train: int = 4, validation: int = 2) -> Path:
    """Write a small COCO: two categories, one or two objects a picture, and a crowd."""
    for split, count in (("train2017", train), ("val2017", validation)):
        (root / split).mkdir(parents=True)
        (root / "annotations").mkdir(exist_ok=True)
        images, annotations = [], []
        for number in range(1, count + 1):
            width, height = (120, 90) if number % 2 else (80, 110)
            name = f"{number if split == 'train2017' else number + 50:012d}.jpg"
            (root / split / name).write_bytes(
                encoded(photograph(number % 2, number, (width, height)))
            )
            image = int(name[:12])
            images.append({"id": image, "file_name": name, "width": width, "height": height})
            boxes = [[8.5, 10.0, 50.0, 60.0], [40.0, 30.0, 35.5, 55.0]][: 1 + number % 2]
            annotations += [
                {
                    "id": 100 * image + place,
                    "image_id": image,
                    "category_id": (3, 18)[place],
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
                for place, box in enumerate(boxes)
            ]
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 3, "name": "flower"}, {"id": 18, "name": "temple"}],
        }
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "coco")


def change(root: Path, edit: Callable[[dict[str, Any]], object], name: str = LIST) -> None:
    """Change a file of annotations."""
    content = json.loads((root / name).read_text())
    edit(content)
    (root / name).write_text(json.dumps(content))


def opened(root: Path, **settings: Any) -> Coco:
    return open_coco(root, CANVAS, **settings)


def batches(dataset: Coco, **settings: Any) -> list[Any]:
    chosen = {"seed": 0, "epoch": 0, "start": 0, "stop": 2, "batch_size": 2} | settings
    return list(dataset.train_batches(**chosen))
