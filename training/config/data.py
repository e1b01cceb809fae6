"""The section `data`: where samples come from, how they are drawn, and how their images are kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from model.images.preprocessing import MAX_PIXELS
from training.config.captions import Captions
from training.config.errors import known_encoding
from training.config.section import MAX_WEIGHT, Names, Patterns, Section


class Columns(Section):
    """What the columns of a table hold; where nothing is said, the usual names are looked for."""

    picture: str | None = None  # paths, relative to the table; in Parquet also the bytes of picture files
    captions: Names = Field(default=[])
    label: str | None = None


class Source(Section):
    """Pictures that are sampled together, in one of three forms; paths are relative to the configuration file."""

    shards: Names = Field(default=[])  # WebDataset tar files: glob patterns and brace lists
    table: Names = Field(default=[])  # CSV, TSV, JSON lines or Parquet files: glob patterns and brace lists
    folder: Names = Field(default=[])  # pictures with captions beside them, or in a folder for each label
    columns: Columns = Columns()  # of the table
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)  # of CSV; else what fits the first line
    quoting: Literal["csv", "none"] = "csv"  # of CSV; none: quotation marks are as they stand
    encoding: Annotated[str | None, AfterValidator(known_encoding)] = (
        None  # of tables and text files without a mark of their own; else UTF-8
    )
    weight: float = Field(default=1.0, gt=0, le=MAX_WEIGHT)  # share of all samples drawn, relative to the other sources
    # True: drawn again and again by chance, by which labels can be balanced. False: each once in every pass.
    resample: bool = True
    # 1: labels as frequent as they are, which is also what not to resample means; 0: every label alike
    class_power: float = Field(default=0.5, ge=0, le=1)
    medium: str = ""  # such as photograph or drawing: what is said in one is no negative in another
    all_labels: bool = False  # every label is a text of every batch, in one wording, also where none of it was drawn

    @model_validator(mode="after")
    def _one_form(self) -> Source:
        if sum(map(bool, (self.shards, self.table, self.folder))) != 1:
            raise ValueError("name one of shards, table and folder; further ones are sources of their own")
        if not self.table and self.columns != Columns():
            raise ValueError(
                "columns are those of a table: name the metadata file of a folder as table; shards have none"
            )
        if not self.table and (self.delimiter is not None or self.quoting != "csv"):
            raise ValueError("delimiter and quoting are those of a table: name the metadata file of a folder as table")
        return self

    @model_validator(mode="after")
    def _balanced_or_in_turn(self) -> Source:
        if self.resample or self.class_power == 1:
            return self
        if "class_power" in self.model_fields_set:
            raise ValueError("class_power balances labels by drawing some pictures more often: set resample to true")
        object.__setattr__(self, "class_power", 1.0)  # so that the configuration of a run can be read again
        return self

    @property
    def where(self) -> list[str]:
        """The paths and patterns, of whichever form."""
        return self.shards or self.table or self.folder


class Data(Section):
    """What is learned from, and where its pictures are kept."""

    train: Annotated[list[Source], Field(min_length=1)]
    test: dict[str, Patterns] = Field(default={})  # name: patterns of shards; measured once, at the end
    holdout: float = Field(default=0.05, ge=0, lt=1)  # share of the training items that chooses the checkpoint
    exclude: str | None = None  # JSON file, [keys of items that are left out, as SHARD.tar/KEY]
    synonyms: str | None = None  # JSON file, phrase: [other phrases that are true of the same pictures]
    # memory: decoded once and kept; disk: read and decoded when drawn, for sets that are larger than memory
    pictures: Literal["memory", "disk"] = "memory"
    store_pixels: int = Field(default=128, ge=32, le=512)  # pictures are squeezed to this square before the crop
    max_pixels: int = Field(default=MAX_PIXELS, gt=0)  # larger pictures are skipped, by their headers
    max_long_text: float = Field(default=0.05, ge=0, le=1)  # share of captions that may be whole descriptions
    captions: Captions = Captions()
