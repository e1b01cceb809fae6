"""Fetch published models by name."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model.commands.common import announced, fail, note
from model.commands.inspect import verify
from model.requirements import needs

if TYPE_CHECKING:
    from model.checkpoints.checkpoint import Options
    from model.commands.progress import Reporter
    from model.config import Activation
    from model.hub.download import Downloaded
    from model.hub.names import PublishedModel
    from model.hub.settings import HubSettings


def pull(
    name: Annotated[
        str,
        typer.Argument(
            help="ViT-B-32 (OpenAI's), ViT-B-32:laion2b_s34b_b79k (a tag of open_clip), ViT-B-32__openai (as immich "
            "writes it), or ORGANISATION/NAME of the Hugging Face hub, @REVISION after it for one that is not main.",
            show_default=False,
        ),
    ],
    to: Annotated[
        Path | None, typer.Option(help="Folder for the bundle; by the name, below SIGHTWORD_HOME, if left out.")
    ] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", help="Folder that holds the files already; then nothing is fetched.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Pull it again, and replace what is there.")] = False,
    keep_download: Annotated[
        bool, typer.Option("--keep-download", help="Keep the files, for `python -m model import` with other options.")
    ] = False,
) -> None:
    """Fetch a published model, check it, turn it into a bundle and check that both compute the same.

    A pull that was interrupted goes on where it ended. What is published of a file, size and SHA-256, is checked;
    nothing that a file holds is executed. A model that is here already is left as it is.

    Examples:

        python -m model models                 the names there are

        python -m model pull ViT-B-32          then: SIGHTWORD_MODEL=ViT-B-32 make serve

        python -m model pull google/siglip-base-patch16-224 --to siglip

        python -m model pull ViT-L-14 --from ~/.cache/clip

    Variables, also read from a file `.env`:

        SIGHTWORD_HOME            where models are kept [~/.cache/sightword]

        SIGHTWORD_OFFLINE=1       fetch nothing; or HF_HUB_OFFLINE=1

        SIGHTWORD_OFFLINE_FOLDER  as --from, with ORGANISATION/NAME below it

        SIGHTWORD_OPENAI_MIRROR   has <SHA-256>/<file> of OpenAI's models

        HF_ENDPOINT               another hub [https://huggingface.co]

        HF_TOKEN                  for models that ask for it; sent to the hub only

    HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE are respected.
    """
    from model.files import WriteError
    from model.hub.errors import HubError
    from model.hub.folders import bundle_folder, pull_lock
    from model.hub.names import published_model
    from model.hub.settings import HubSettings
    from model.manifest import MANIFEST

    try:
        model = published_model(name)
        settings = HubSettings.read()
        if from_ is not None:
            settings = settings.model_copy(update={"offline_folder": from_.expanduser()})
        folder = to or bundle_folder(model, settings)
        with pull_lock(
            model, settings, lambda: typer.echo(f"another process is pulling {model.name}: waiting", err=True)
        ):
            is_bundle = (folder / MANIFEST).is_file()
            if folder.exists() and not is_bundle and not (folder.is_dir() and not any(folder.iterdir())):
                fail(f"{folder} is not empty and not a bundle: name another folder")
            if is_bundle and not force:
                _check_bundle_id(model, folder)
            else:
                _pull(model, folder, settings, keep_download)
    except HubError as error:
        fail(str(error))
    except WriteError as error:
        fail(f"{error}. SIGHTWORD_HOME sets where models are kept")
    except OSError as error:
        fail(f"{error.filename or folder}: {error.strerror}. SIGHTWORD_HOME sets where models are kept")
    verify(folder)
    typer.echo(f"serve it: SIGHTWORD_MODEL={to or model.name} python -m service")


def models() -> None:
    """List the published models that `pull` and SIGHTWORD_MODEL know by name, and where they come from."""
    from model.hub.names import Archive, known_models

    width = max(map(len, known_models()))
    for model in known_models().values():
        source = model.source
        where = source.url.partition("/clip/")[0] if isinstance(source, Archive) else f"hub: {source.repo}"
        extra = f"  needs the extra `{model.extra}`" if model.extra else ""
        typer.echo(f"{model.name:<{width}} {model.parameters_million or '?':>5} M parameters  {where}{extra}")
        if model.note:
            typer.echo(f"{'':<{width}}       {model.note}")
    typer.echo(
        "Letter case does not count, and neither does -quickgelu, as the files say it; immich writes ViT-B-32__openai. "
        "Any other model on the hub: ORGANISATION/NAME, with @REVISION for one that is not `main`."
    )


def _check_bundle_id(model: PublishedModel, folder: Path) -> None:
    from model.bundle import Bundle
    from model.manifest import BundleError

    try:
        bundle_id = Bundle.load(folder).id
    except BundleError as error:
        fail(f"{error}; --force pulls it again")
    if bundle_id != model.id:
        fail(f"{folder} holds {bundle_id}: name another folder, or let --force replace it")
    typer.echo(f"{model.name} is here already; --force pulls it again", err=True)


def _pull(model: PublishedModel, folder: Path, settings: HubSettings, keep_download: bool) -> None:
    from model.hub.folders import download_folder

    with needs("convert"):  # first: to find out after gigabytes would be late
        from model.checkpoints.checkpoint import Options
        from model.commands.progress import Reporter
        from model.hub.names import Archive
    if model.extra is not None:
        _expect_open_clip(model.extra)
    with Reporter() as reporter:
        if model.note:
            reporter.note(f"{model.name}: {model.note}")
        downloaded = _download(model, settings, reporter)
    # Not in the files, and published: all of OpenAI's were trained with it.
    activation: Activation | None = "quick_gelu" if isinstance(model.source, Archive) else None
    options = Options(activation, image_size=model.image_size, matryoshka_dimensions=model.matryoshka_dimensions)
    _import(model, downloaded, folder, options)
    if not keep_download and settings.offline_folder is None:
        shutil.rmtree(download_folder(model, settings), ignore_errors=True)


def _expect_open_clip(extra: str) -> None:
    with needs(extra):
        if find_spec("open_clip") is None:
            raise ModuleNotFoundError(name="open_clip")


def _download(model: PublishedModel, settings: HubSettings, reporter: Reporter) -> Downloaded:
    """The files of the model, and whatever open_clip has of it that its repository has not."""
    from model.checkpoints.checkpoint import CheckpointError
    from model.checkpoints.openclip.listed import write_listed_config
    from model.hub.companions import OPEN_CLIP_CONFIG, download_companions
    from model.hub.download import download

    downloaded = download(model, settings, reporter)
    if settings.offline_folder is not None:
        return downloaded  # which is the user's
    folder = downloaded.checkpoint
    if model.open_clip is not None and not (folder / OPEN_CLIP_CONFIG).is_file():
        try:
            with needs("convert-all"):
                reporter.note(write_listed_config(folder, *model.open_clip))
        except CheckpointError as error:
            fail(f"{model.name} cannot be imported: {error}")
    download_companions(downloaded, settings, reporter)
    return downloaded


def _import(model: PublishedModel, downloaded: Downloaded, folder: Path, options: Options) -> None:
    from model.checkpoints.checkpoint import CheckpointError
    from model.checkpoints.importer import import_checkpoint
    from model.export.bundle import ExportError
    from model.files import replace_folder
    from model.manifest import MANIFEST

    folder.parent.mkdir(parents=True, exist_ok=True)
    replaces = (folder / MANIFEST).exists()  # it may be served: it stays until the next one is complete
    with _exit_on_sigterm(), replace_folder(folder) if replaces else nullcontext(folder) as target:
        if replaces:
            target.rmdir()  # the import makes it anew
        try:
            with announced(f"{model.name}: importing {downloaded.checkpoint}"):
                _, warnings = import_checkpoint(
                    downloaded.checkpoint, target, options, bundle_id=model.id, origin=downloaded.origin, note=note
                )
        except (CheckpointError, ExportError) as error:
            fail(f"{model.name} cannot be imported: {error}")
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into SystemExit, so that unfinished folders are removed as after an error."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
