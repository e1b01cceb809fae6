"""Publishing, step by step: who is served, what is measured before, the swap, what is measured after, the verdict."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from model.bundle import Bundle, BundleError
from training.evaluation.intervals import too_few, wilson
from training.progress import console
from training.publishing.folder import ServedFolder
from training.publishing.remote import PublishError, Remote, Served
from training.publishing.sample import Sample


@dataclass(frozen=True)
class Where:
    """A service, and what a bundle is to replace there."""

    url: str
    folder: Path | None = None  # as this machine sees it; by default as the service was told
    model: str | None = None  # id of the model to replace; by default that of the bundle


def publish(bundle: Bundle, where: Where, sample: Sample) -> None:
    """Put `bundle` into the service's folder, have it loaded, and put the old one back if it answers worse.

    Worse is fewer right answers on the same pictures, by one already. Raises PublishError; what is served then, and
    what lies in the folder, is what was there before.
    """
    with closing(Remote(where.url)) as remote:
        old, path = find(remote, bundle.id, where)
        folder = ServedFolder(path)
        with folder.alone():
            if folder.recover():
                _say(f"{path}: an earlier publication was cut off; what was there before it is back")
                remote.reload(old.id)
                old, _ = find(remote, bundle.id, where)
            _check_folder(path, old)
            before = remote.right(old, sample)
            if few := too_few(len(before), sample.name):
                _say(f"warning: {few}: name more to judge by")
            _say(f"{old.id} as served now: {_share(before)} right in {sample.name}")
            new = folder.prepare(bundle, old.id)
            _swap_and_judge(remote, folder, replace(old, digest=new.digest), sample, before)
            _say(f"published: {remote.url} serves {new.digest[:12]}; the old bundle is {folder.keep()}")


def check(bundle_id: str, where: Where) -> None:
    """Raise PublishError now rather than after hours of training."""
    with closing(Remote(where.url)) as remote:
        served, path = find(remote, bundle_id, where)
        if not ServedFolder(path).is_undecided:
            _check_folder(path, served)


def find(remote: Remote, bundle_id: str, where: Where) -> tuple[Served, Path]:
    """The model to replace and its folder."""
    models = remote.served()
    wanted = where.model or bundle_id
    found = [model for model in models if model.id == wanted]
    if not found:
        there = ", ".join(model.id for model in models)
        raise PublishError(
            f"{remote.url} serves {there}, and clients that name it would not find {wanted}. To take the place of "
            "one of them under its name: --replace NAME; or train with --set name=NAME"
        )
    setting = found[0].setting
    if where.folder is not None:
        return found[0], where.folder.absolute()
    if setting is None:
        raise PublishError(
            f"{remote.url} serves the checkpoint inside its package, which is not to be replaced: copy it to a folder "
            "of its own, and start the service with SIGHTWORD_MODEL=FOLDER"
        )
    if not Path(setting).is_absolute():
        raise PublishError(f"{remote.url} was told to serve {setting!r}: say with --folder which folder that is here")
    return found[0], Path(setting)


def _check_folder(path: Path, served: Served) -> None:
    try:
        there = Bundle.load(path)
    except BundleError as error:
        raise PublishError(f"the folder that is served is not here: {error}. Name it with --folder") from error
    if there.digest != served.digest:
        raise PublishError(
            f"{path} holds {there.digest[:12]}, but {served.digest[:12]} is served: it is another folder (name the "
            "right one with --folder), or it was changed and not reloaded"
        )


def _swap_and_judge(remote: Remote, folder: ServedFolder, new: Served, sample: Sample, before: list[bool]) -> None:
    try:
        folder.swap()
        digest = remote.reload(new.id)
        if digest != new.digest:
            raise PublishError(f"after the reload {remote.url} serves {digest[:12]}: it does not read {folder.path}")
        after = remote.right(new, sample)
        told = f"{_share(after)} right in {sample.name}, {_share(before)} before"
        _say(f"{new.id} as published: {told}")
        if sum(after) < sum(before):
            raise PublishError(f"the new model is worse: {told}")
    except BaseException as error:  # also of somebody who interrupts
        folder.recover()
        try:
            remote.reload(new.id)
        except PublishError as again:
            raise PublishError(
                f"{error}. The old bundle is back in {folder.path}, but could not be loaded again: {again}"
            ) from error
        if isinstance(error, PublishError):
            raise PublishError(f"{error}. The old model is served again") from error
        raise


def _share(right: list[bool]) -> str:
    low, high = wilson(sum(right) / len(right), len(right))
    share = f"{sum(right)} of {len(right)} ({sum(right) / len(right):.1%})"
    return f"{share} [95 %: {100 * low:.1f} to {100 * high:.1f}]"


def _say(line: str) -> None:
    console.print(line, soft_wrap=True, markup=False, highlight=False)
