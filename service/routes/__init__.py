"""One small router for each group of native endpoints: a file here, its shapes in schema/, and a line below.

Those of other services are in compat/, of which a setting may leave some out.

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
    info,
    label_sets,
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
        docs,
        playground,
    )
)
