"""`python fastapi_transformers.py FOLDER PORT`: CLIP behind FastAPI as it is written in an afternoon."""

import base64
import io
import sys
from collections.abc import Mapping

import torch
import uvicorn
from fastapi import FastAPI
from PIL import Image
from pydantic import BaseModel
from transformers import AutoProcessor, CLIPModel

folder, port = sys.argv[1], int(sys.argv[2])
model = CLIPModel.from_pretrained(folder).eval()
processor = AutoProcessor.from_pretrained(folder)
app = FastAPI()


class Inputs(BaseModel):
    """Pictures are files in base64."""

    images: list[str] = []
    texts: list[str] = []


class Embeddings(BaseModel):
    """In the order of the inputs."""

    images: list[list[float]] = []
    texts: list[list[float]] = []


@app.post("/embed")
def embed(inputs: Inputs) -> Embeddings:
    """FastAPI runs this in its pool of threads."""
    embeddings = Embeddings()
    with torch.inference_mode():
        if inputs.images:
            pictures = [Image.open(io.BytesIO(base64.b64decode(file))).convert("RGB") for file in inputs.images]
            pixels = processor(images=pictures, return_tensors="pt")
            embeddings.images = of_unit_length(model.get_image_features(**pixels))
        if inputs.texts:
            tokens = processor(text=inputs.texts, return_tensors="pt", padding=True, truncation=True)
            embeddings.texts = of_unit_length(model.get_text_features(**tokens))
    return embeddings


def of_unit_length(output: Mapping[str, torch.Tensor]) -> list[list[float]]:
    """What a tower gives, as lists."""
    features = output["pooler_output"]
    rows: list[list[float]] = (features / features.norm(dim=-1, keepdim=True)).tolist()
    return rows


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False)
