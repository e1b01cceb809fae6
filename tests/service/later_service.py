"""The real service of a later release, which makes other pixels of a picture; as patient as patient_service is."""

from __future__ import annotations

import model.runtime.engine

model.runtime.engine.PIXELS_VERSION += 1

import tests.service.patient_service  # noqa: E402, F401 - which is run by being imported
