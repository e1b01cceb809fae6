"""The real service, but with less patience for connections: python -m tests.service.impatient_service [its flags]."""

from __future__ import annotations

import service.http.protocol
from service.__main__ import app

service.http.protocol.HEAD_S = 1.0
service.http.protocol.ANSWER_S = 5.0
app()
