"""The real service, but with less patience for connections: python -m tests.service.impatient_service --port 0."""

from __future__ import annotations

from service import logs
from service.http.connection_limits import ConnectionLimits
from service.http.sockets import bind
from service.server import Server
from service.settings import Settings
from service.state import Service

if __name__ == "__main__":
    settings = Settings.read({"port": 0})
    logs.configure(settings.log_format)
    service = Service(settings)
    server = Server(service, ConnectionLimits(head_s=1.0, answer_s=5.0))
    server.loading = service.models.check()
    server.run(bind(settings.host, settings.port))
