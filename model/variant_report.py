"""What a bundle that was optimised says of itself: what it was made from, and what was measured against that."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

Precision = Literal["fp32", "fp16", "bf16", "int8"]
LOW_COSINE = 0.99
PHOTOGRAPH_CROPS = "crops of the probe's photographs"


Count = Annotated[int, Field(ge=0, le=10**12)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TowerReport(_Frozen):
    """One tower beside the same tower of the bundle that it was made from."""

    computes: Literal["float32", "float16", "int8"]  # what its matrices are multiplied in
    kept: tuple[str, ...] = ()  # what stays in float32 of what could be computed in that
    # On which the ranges of its activations were measured (calibration data); 0: anew in every run.
    calibration_pictures: Count = 0
    fused: dict[str, Count] = {}  # nodes by operator
    compared: Count  # pictures or texts
    min_cosine: FiniteFloat
    mean_cosine: FiniteFloat
    batch: Count  # items in a timed run
    # Of an item's vector alone to that among others: int8 finds the range of activations anew in every batch.
    alone_min_cosine: FiniteFloat
    speed_ratio: float = Field(gt=0, allow_inf_nan=False)  # above 1: faster than the source


class VariantReport(_Frozen):
    """How a variant was made and how close it is, on the machine that made it."""

    made_from: str  # digest
    made_from_id: str
    precision: Precision  # that was asked for
    fused: bool = False
    image: TowerReport
    text: TowerReport
    pictures: str  # where they came from
    unreadable_pictures: Count = 0
    labels: Count
    top1_agreement: FiniteFloat  # share of the pictures for which both choose the same label
    onnxruntime: str
    provider: str
    machine: str
    threads: Count
    created: str

    @property
    def warnings(self) -> list[str]:
        """What nobody who serves the variant should overlook."""
        towers = {"pictures": self.image, "texts": self.text}
        warnings = [
            f"{self.precision}: the mean cosine of {what} to {self.made_from_id} is {tower.mean_cosine:.4f}, under "
            f"{LOW_COSINE}: expect other results, and test this variant on your own task before serving it"
            for what, tower in towers.items()
            if tower.mean_cosine < LOW_COSINE
        ]
        if self.image.calibration_pictures and self.pictures == PHOTOGRAPH_CROPS:
            warnings.append(
                "the ranges of the image tower's activations were measured on crops of four photographs: it is less "
                "close on others than this report says. Make the variant with --pictures, a folder of pictures of the "
                "kind that it will see"
            )
        return warnings

    def rows(self) -> dict[str, str]:
        """The report for people, by heading."""
        asked = self.precision + (", fused" if self.fused else "")
        return {
            "variant": f"{asked}, of {self.made_from_id} ({self.made_from[:12]})",
            "image variant": _tower_row(self.image, "pictures"),
            "text variant": _tower_row(self.text, "texts"),
            "top-1 agreement": f"{self.top1_agreement:.1%} over {self.labels} labels ({self.pictures}"
            + (f", {self.unreadable_pictures} files not readable)" if self.unreadable_pictures else ")"),
            "measured": f"{self.created}, {self.provider} of onnxruntime {self.onnxruntime}, "
            f"{self.threads} threads of {self.machine}",
        }


def _tower_row(tower: TowerReport, items: str) -> str:
    fused = ", ".join(f"{count} {operator}" for operator, count in tower.fused.items())
    measured_on = tower.calibration_pictures
    ranges = f", ranges of activations measured on {measured_on} pictures" if measured_on else ""
    kept = f", {', '.join(tower.kept)} in float32" if tower.kept else ""
    return (
        f"computes in {tower.computes}{kept}{ranges}; cosine of {tower.compared} {items}: "
        f"{tower.min_cosine:.5f} at least, {tower.mean_cosine:.5f} on average, {tower.alone_min_cosine:.5f} at least "
        f"between one alone and the same among others; "
        f"{tower.speed_ratio:.2f} times as fast in batches of {tower.batch}" + (f"; fused: {fused}" if fused else "")
    )
