"""`python -m service bulk`: its options, and which exit code an error is. Loads nothing that computes until it runs."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from model.environment import unknown_variables
from model.requirements import needs
from model.terminal import PrintableFormatter, printable

log = logging.getLogger(__name__)
USAGE, NOT_THERE = 2, 3
DEFAULT_PART_ROWS = 10_000
EXIT_CODES = (
    "Exit codes: 0, all is done. 1, all is done, but some items failed: _errors.jsonl names each. 2, the command has "
    "to change. 3, it could not be done or not to its end: no such model, a full disk; the same command goes on. 130, "
    "interrupted; the same command goes on."
)


def bulk(
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Folders, WebDataset shards (.tar), .parquet, .csv, .tsv, .jsonl, or .txt of lines."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the vectors: new, empty, or of the same job, to go on.")
    ],
    kind: Annotated[
        Literal["auto", "image", "text"], typer.Option("--kind", help="What is embedded; auto: told by the inputs.")
    ] = "auto",
    layout: Annotated[
        Literal["parquet", "npy", "clip-retrieval"],
        typer.Option("--layout", help="Parquet parts, .npy with keys, or the folders of clip-retrieval."),
    ] = "parquet",
    precision: Annotated[
        Literal["float32", "float16"], typer.Option("--precision", help="Of the numbers that are written.")
    ] = "float32",
    dimensions: Annotated[
        int | None, typer.Option("--dimensions", min=1, help="Keep so many components, and normalise again.")
    ] = None,
    truncate: Annotated[
        bool | None,
        typer.Option(
            "--truncate/--no-truncate",
            help="Cut texts that are longer than the model reads, rather than have them fail. (SIGHTWORD_TRUNCATE)",
            show_default=False,
        ),
    ] = None,
    column: Annotated[
        str | None, typer.Option("--column", help="Of tables: the column of paths, URLs, pictures or texts.")
    ] = None,
    key_column: Annotated[
        str | None, typer.Option("--key-column", help="Of tables: the column of keys. [default: row numbers]")
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", help="Of tables: where their paths start. [default: the table's folder]")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="Of texts and tables without a byte order mark. [default: UTF-8]")
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option("--delimiter", help="Of .csv. [default: what fits the first line]")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Folder of a bundle, or the name of a published model. [default: SIGHTWORD_MODEL, or bundled]",
        ),
    ] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", help="auto, cpu, cuda, tensorrt or openvino. (SIGHTWORD_PROVIDER)")
    ] = None,
    part_rows: Annotated[
        int, typer.Option("--part-rows", min=1, max=1_000_000, help="Items of a part, which is written at once.")
    ] = DEFAULT_PART_ROWS,
    near_duplicates: Annotated[
        float | None,
        typer.Option(
            "--near-duplicates",
            metavar="COSINE",
            help="When all is embedded, find what is this similar, as 0.95, and write which to remove. Of parquet.",
        ),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Do parts again in which a URL was not reached or a file not read; no vector is lost.",
        ),
    ] = False,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option("--engine", help="Where it is computed: in this process, or by actors on a Ray cluster."),
    ] = "local",
    ray_actors: Annotated[
        int | None,
        typer.Option(
            "--ray-actors", min=1, help="Most engines on the cluster. [default: one for each GPU, or for each node]"
        ),
    ] = None,
) -> None:
    """Embed many pictures or texts into a folder of vectors, and go on after whatever ended it.

        python -m service bulk photos --output vectors

        python -m service bulk shards/*.tar --output vectors --precision float16

        python -m service bulk captions.parquet --column caption --key-column id --output vectors

        python -m service bulk photos --output vectors --near-duplicates 0.95

        RAY_ADDRESS=head:6379 python -m service bulk /shared/photos --output /shared/vectors --engine ray

    The same command again goes on where an interrupted one ended, also after kill -9. Items that cannot be embedded
    do not end it: their vector is null, and _errors.jsonl says why. After an outage, --retry-failed does again those
    that were not reached. Settings of the service apply where they concern
    vectors: SIGHTWORD_DECODER, SIGHTWORD_MAX_IMAGE_PIXELS, SIGHTWORD_MAX_BATCH, SIGHTWORD_URL_HOSTS.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    with needs("parquet"):
        import pyarrow  # noqa: F401
    with needs("cpu"):
        from model.manifest import BundleError
        from model.runtime.engine import EngineError
        from service.bulk.job import JobError, JobRequest
        from service.bulk.run import run
        from service.bulk.sources import SourceError, SourceOptions
        from service.settings import Settings, SettingsError
    if ray_actors is not None and engine != "ray":
        raise typer.BadParameter("is for --engine ray", param_hint="--ray-actors")
    try:
        settings = Settings.read({})
        for name, suggestion in unknown_variables().items():
            log.warning("%s is not a setting: %s", name, suggestion or "see python -m service --help")
        source = SourceOptions(
            kind=None if kind == "auto" else kind, column=column, key_column=key_column, part_rows=part_rows,
            root=root and root.absolute(), encoding=encoding, delimiter=delimiter,
            url_hosts=settings.url_hosts, url_networks=settings.url_networks, max_body_bytes=settings.max_body_bytes,
        )  # fmt: skip
        request = JobRequest(
            tuple(str(each.absolute()) for each in inputs), str(output.absolute()), source, layout, precision,
            dimensions, truncate, model, provider, retry_failed,
        )  # fmt: skip
        if engine == "ray":
            from service.bulk.on_ray import RayEngine  # with Ray, which not everybody has

            code = run(request, near_duplicates, partial(RayEngine, actors=ray_actors))
        else:
            code = run(request, near_duplicates)
    except (JobError, SourceError, SettingsError) as error:
        raise _end(str(error), USAGE) from error
    except (BundleError, EngineError, OSError) as error:
        raise _end(str(error), NOT_THERE) from error
    except Exception as error:  # Python's own exit code would say that all is done, but for some items
        log.exception("a fault, after which the same command may go on")
        raise typer.Exit(NOT_THERE) from error
    raise typer.Exit(code)


def _end(message: str, code: int) -> typer.Exit:
    typer.echo(printable(message, keep="\n"), err=True)
    return typer.Exit(code)


bulk.__doc__ = f"{bulk.__doc__}\n    {EXIT_CODES}"
