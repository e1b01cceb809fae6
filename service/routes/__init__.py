"""One small router for each group of endpoints. A new one is a file here, its shapes in schema/, and a line below.

A handler whose first parameter is `request: Annotated[Model, json_body(Model)]` reads its body strictly, within the
limits, and is documented by that declaration.
"""

from __future__ import annotations

from service.routes import (
    admin,
    classify,
    docs,
    embed,
    health,
    huggingface,
    info,
    jina,
    label_sets,
    openai,
    playground,
    similarity,
)

ROUTERS = tuple(
    group.router
    for group in (
        embed,
        similarity,
        classify,
        label_sets,
        info,
        health,
        admin,
        openai,
        jina,
        huggingface,
        docs,
        playground,
    )
)
