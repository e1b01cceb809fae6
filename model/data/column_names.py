"""The names under which people and programs keep pictures, captions and labels in tables and records."""

from __future__ import annotations

import re

SYNTHETIC_FIELD = "syn_text"
# As img2dataset, open_clip, webdataset, Hugging Face's data sets, Flickr30k and people call them; `normalized`
# before they are compared. All captions of a record are used, in this order; of its labels the first that is not blank.
CAPTION_NAMES = (
    "title", "caption", "captions", "text", "txt", "sentences", "sentence", "alt", "alt_text", "comment", "raw",
    SYNTHETIC_FIELD,
)  # fmt: skip
LABEL_NAMES = ("label", "class", "class_name", "label_name", "category")
IMAGE_NAMES = (
    "filepath", "file_name", "filename", "image", "image_path", "path", "jpg", "png", "jpeg", "webp", "picture",
    "image_name", "image_id", "image_file", "img", "img_path", "file",
)  # fmt: skip
OTHER_NAMES = ("tags", "coarse", "description")


def normalized(name: str) -> str:
    """A name as it is compared: `File Name` and `file_name` are one."""
    return re.sub(r"[\s-]+", "_", name.strip()).casefold()
