"""The server that a tutorial shows: FastAPI, one picture a request, decoded and computed where it arrives. For serving.py.

    python benchmarks/plain_server.py RUN PORT

The network and its weights are those of a run; pictures go the way of torchvision's documentation (Pillow, shorter side,
middle, normalised), once as they are and once mirrored, as the run sees them.
"""

import io
import sys

import torch
import uvicorn
from fastapi import FastAPI, Request
from PIL import Image
from torchvision.transforms import v2

import tapetum

run, port = sys.argv[1], int(sys.argv[2])
classifier = tapetum.load(run)
network, how = classifier.network.eval(), classifier.preprocessing
prepare = v2.Compose(
    [
        v2.ToImage(),
        v2.Resize(how.resize, antialias=True),
        v2.CenterCrop(how.size),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(how.mean, how.std),
    ]
)
app = FastAPI()


@app.get("/readyz")
def readyz() -> dict:
    return {}


async def picture(request: Request) -> Image.Image:
    return Image.open(io.BytesIO(await request.body())).convert("RGB")


@app.post("/v1/predict")
async def predict(request: Request) -> dict:
    image = prepare(await picture(request))
    with torch.inference_mode():
        outputs_2K = network(torch.stack([image, image.flip(-1)]))
    probabilities = outputs_2K.softmax(1).mean(0).tolist()
    return {"answers": [{"probabilities": dict(zip(classifier.classes_, probabilities, strict=True))}]}


uvicorn.run(app, port=port, log_level="error")
