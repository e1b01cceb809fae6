"""Where things are by default: SIGHTWORD_* variables, or a file `.env`; flags win over both."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from model.environment import ENCODING, ENV_FILE

CONFIGS = Path(__file__).parent / "configs"


class Settings(BaseSettings):
    """Defaults of the commands' options."""

    model_config = SettingsConfigDict(
        env_prefix="SIGHTWORD_TRAINING_", env_file=ENV_FILE, env_file_encoding=ENCODING, extra="ignore", frozen=True
    )

    config: Path = CONFIGS / "sample.yaml"
    output: Path = Path("runs")
    corpus: Path = Path("data/corpus")
    cache: Path = Path("data/cache")
    photos: Path | None = None

    @classmethod
    def read(cls) -> Settings:
        """From the environment; what is wrong with the file ends the process, as no command runs yet."""
        try:
            return cls()
        except UnicodeDecodeError as error:
            raise SystemExit(f"{ENV_FILE} is not UTF-8: {error.reason} at byte {error.start}") from None
