"""The README.md of a folder that was written for open_clip."""

from __future__ import annotations

from model.bundle import Bundle


def readme(bundle: Bundle, own_tokenizer: bool) -> str:
    """How to load the folder, where it comes from, and what differs around the towers."""
    source = bundle.manifest.source
    lines = [
        f"# {bundle.id}",
        "",
        f"Written from the Sightword bundle `{bundle.id}`, digest `{bundle.digest}`, for open_clip 3.3 or later.",
    ]
    if source:
        known = ", ".join(f"{key} {value}" for key, value in source.items() if isinstance(value, str | int | float))
        lines += [f"Its source: {known or 'see the manifest of the bundle'}."]
    lines += [
        "",
        "```python",
        "import open_clip",
        "",
        'where = "local-dir:/path/of/this/folder"',
        "model, _, preprocess = open_clip.create_model_and_transforms(where)",
        "tokenizer = open_clip.get_tokenizer(where)",
        "```",
        "",
        "Vectors are those of the bundle for the same pixels and tokens. What differs around them:",
        "",
        *_pixel_differences(bundle),
        "- open_clip cuts a long text without saying so, and reads control tokens that are spelt out in a text.",
    ]
    if own_tokenizer:
        lines += [
            "- The tokenizer is not the usual one. From a folder, open_clip finds it there; before you upload the "
            "folder to a hub, set `hf_tokenizer_name` to the name of your repository."
        ]
    return "\n".join(lines) + "\n"


def _pixel_differences(bundle: Bundle) -> list[str]:
    preprocessing = bundle.preprocessing
    lines = []
    if preprocessing.exif_orientation:
        lines.append("- open_clip does not turn pictures upright by their EXIF orientation, the bundle does.")
    if preprocessing.alpha == "white":
        lines.append("- open_clip drops transparency, the bundle puts it on white.")
    if preprocessing.crop == "floor":
        lines.append("- The bundle crops as transformers does, open_clip as torchvision: at times one pixel apart.")
    return lines
