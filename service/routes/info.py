"""GET /info, /models and /metrics: what is served here and how it fares."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from model import __version__
from model.bundle import bundled_digest
from model.library_config import LibraryConfig
from model.variant_report import VariantReport
from model.zeroshot import template_sets
from service.errors import error_responses
from service.inference.pipeline import Pipeline
from service.schema.answers import (
    DeviceMemoryAnswer,
    InfoAnswer,
    ModelsAnswer,
    ServedMixture,
    ServedModel,
    ServedVariant,
)
from service.schema.compat.common import seconds_since_1970
from service.schema.compat.infinity import CAPABILITIES, ListedModel, ListedModelsAnswer, QueueStats
from service.state import Service, ServiceDep

router = APIRouter(tags=["information"], responses=error_responses())
BUNDLED_DIGEST = bundled_digest()


@router.get("/models", summary="The models served")
async def models(service: ServiceDep) -> ListedModelsAnswer | ModelsAnswer:
    """Name the models and what they are; Infinity has another list at this path, which stands beside ours."""
    served = [_served(pipeline, service) for pipeline in service.models.serving]
    if "infinity" not in service.settings.apis:
        return ModelsAnswer(models=served)
    return ListedModelsAnswer(models=served, data=[_listed(each, service) for each in service.models.serving])


@router.get("/info", summary="Models, limits, settings and version")
async def info(service: ServiceDep) -> InfoAnswer:
    """Everything a client may need to know before it sends anything."""
    memory = await service.models.opener.device_memory.current()
    return InfoAnswer(
        name="sightword",
        version=__version__,
        workers=1 if service.worker is None else service.worker.count,
        models=[_served(pipeline, service) for pipeline in service.models.serving],
        device_memory=None if memory is None else DeviceMemoryAnswer(total_bytes=memory.total, free_bytes=memory.free),
        template_sets={name: list(templates) for name, templates in template_sets().items()},
        limits={**service.settings.limits(), "max_connections": service.max_connections},
        settings=service.settings.redacted(),
    )


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {
            "content": {name: {"schema": {"type": "string"}} for name in ("text/plain", "application/openmetrics-text")}
        }
    },
)
async def metrics(request: Request, service: ServiceDep) -> Response:
    """Requests, stages, batches, queue, rejections; in OpenMetrics, slow requests lead to their traces."""
    content, media_type = await service.render_metrics(request.headers.get("accept", ""))
    return Response(content, media_type=media_type)


def _served(pipeline: Pipeline, service: Service) -> ServedModel:
    bundle, config = pipeline.bundle, pipeline.bundle.manifest.config
    return ServedModel(
        id=bundle.id,
        aliases=service.models.aliases_of(pipeline),
        digest=bundle.digest,
        bundled=bundle.digest == BUNDLED_DIGEST,
        dimensions=bundle.dimensions,
        matryoshka_dimensions=list(bundle.manifest.matryoshka_dimensions),
        mixture=bundle.mixture and ServedMixture(tokens=bundle.mixture.tokens, heads=bundle.mixture.heads),
        library=config.library if isinstance(config, LibraryConfig) else None,
        architecture=config.architecture if isinstance(config, LibraryConfig) else config.name,
        context_length=bundle.context_length,
        categories=bundle.categories,
        image_size=bundle.image_size,
        logit_scale=bundle.logit_scale,
        logit_bias=bundle.logit_bias,
        precision=bundle.precision,
        weights_dtype=bundle.manifest.weights_dtype,
        variant=_variant(bundle.manifest.variant),
        source_warnings=bundle.manifest.source_warnings,
        provider=pipeline.engine.provider,
        gpu=str(pipeline.engine.gpu) if pipeline.engine.gpu else None,
        provider_problem=pipeline.engine.problem or None,
        fallback_nodes=pipeline.engine.fallback_nodes,
        max_batch=dict(pipeline.max_batch),
        padded_sizes={tower: list(sizes) for tower, sizes in pipeline.padded_sizes.items()},
        device_bytes=pipeline.device_bytes,
        shares_weights=pipeline.engine.shares_weights,
        lanes=pipeline.workers,
        workers=pipeline.workers,
    )


def _listed(pipeline: Pipeline, service: Service) -> ListedModel:
    admission = service.shared.admission
    stats = QueueStats(
        queue_fraction=min(1.0, admission.items / admission.limit_items),
        queue_absolute=admission.items,
        results_pending=admission.items,
        batch_size=max(pipeline.max_batch.values()),
    )
    bundle = pipeline.bundle
    capabilities = tuple(name for name in CAPABILITIES if bundle.mixture is None or name != "image_embed")
    created = seconds_since_1970(bundle.manifest.created)
    return ListedModel(id=bundle.id, created=created, capabilities=capabilities, stats=stats)


def _variant(report: VariantReport | None) -> ServedVariant | None:
    if report is None:
        return None
    return ServedVariant(
        precision=report.precision,
        fused=report.fused,
        made_from_id=report.made_from_id,
        image_mean_cosine=report.image.mean_cosine,
        image_min_cosine=report.image.min_cosine,
        text_mean_cosine=report.text.mean_cosine,
        text_min_cosine=report.text.min_cosine,
        top1_agreement=report.top1_agreement,
    )
