"""Variables by which platforms tell a container where to listen: Vertex AI and SageMaker. Ours go before them."""

from __future__ import annotations

from collections.abc import Mapping

SAGEMAKER_ARGUMENT = "serve"  # what it starts every container with
SAGEMAKER_PORT_VARIABLE, SAGEMAKER_PORT = "SAGEMAKER_BIND_TO_PORT", "8080"
VARIABLES = {
    "port": ("AIP_HTTP_PORT", SAGEMAKER_PORT_VARIABLE),
    "predict_route": ("AIP_PREDICT_ROUTE",),
    "health_route": ("AIP_HEALTH_ROUTE",),
}


def read(environment: Mapping[str, str]) -> dict[str, str]:
    """Values by the names of our settings."""
    found = {name: variable_of(name, environment) for name in VARIABLES}
    return {name: environment[variable] for name, variable in found.items() if variable}


def variable_of(name: str, environment: Mapping[str, str]) -> str | None:
    """The variable of a platform that sets this setting."""
    return next((variable for variable in VARIABLES.get(name, ()) if environment.get(variable)), None)
