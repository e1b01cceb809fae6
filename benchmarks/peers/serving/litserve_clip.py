"""`python litserve_clip.py FOLDER PORT`: CLIP behind LitServe, with its dynamic batching."""

import base64
import io
import sys
from typing import Any

import litserve
import torch
from PIL import Image
from transformers import AutoProcessor, CLIPModel

MAX_BATCH = 16
BATCH_TIMEOUT_S = 0.005


class Clip(litserve.LitAPI):
    """One item in a request, `{"image": base64}` or `{"text": ...}`; batches may hold both."""

    def __init__(self, folder: str) -> None:
        super().__init__(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT_S)
        self.folder = folder

    def setup(self, device: str) -> None:
        """In the process that computes."""
        self.model = CLIPModel.from_pretrained(self.folder).eval().to(device)
        self.processor = AutoProcessor.from_pretrained(self.folder)

    def decode_request(self, request: dict[str, str]) -> Image.Image | str:
        """A picture or a text."""
        if "image" in request:
            return Image.open(io.BytesIO(base64.b64decode(request["image"]))).convert("RGB")
        return request["text"]

    def batch(self, inputs: list[Image.Image | str]) -> list[Image.Image | str]:
        """They stay as they are: the processor makes the tensor."""
        return inputs

    def predict(self, inputs: list[Image.Image | str]) -> list[list[float]]:
        """Each tower runs once."""
        texts = [number for number, item in enumerate(inputs) if isinstance(item, str)]
        pictures = [number for number, item in enumerate(inputs) if not isinstance(item, str)]
        rows: dict[int, list[float]] = {}
        with torch.inference_mode():
            if pictures:
                pixels = self.processor(images=[inputs[number] for number in pictures], return_tensors="pt")
                rows |= zip(pictures, of_unit_length(self.model.get_image_features(**pixels)), strict=True)
            if texts:
                chosen = [inputs[number] for number in texts]
                tokens = self.processor(text=chosen, return_tensors="pt", padding=True, truncation=True)
                rows |= zip(texts, of_unit_length(self.model.get_text_features(**tokens)), strict=True)
        return [rows[number] for number in range(len(inputs))]

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        """One row for each request."""
        return output

    def encode_response(self, output: list[float]) -> dict[str, Any]:
        """Of one request."""
        return {"embedding": output}


def of_unit_length(output: Any) -> list[list[float]]:
    """What a tower gives, as lists."""
    features = output["pooler_output"]
    rows: list[list[float]] = (features / features.norm(dim=-1, keepdim=True)).tolist()
    return rows


if __name__ == "__main__":
    server = litserve.LitServer(Clip(sys.argv[1]), accelerator="cpu", workers_per_device=1, timeout=120)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", generate_client_file=False)
