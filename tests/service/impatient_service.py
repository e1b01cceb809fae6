"""The real service, but with less patience for connections: python -m tests.service.impatient_service [its flags]."""

from __future__ import annotations

import service.protocol
from service.__main__ import app

service.protocol.HEAD_S = 1.0
service.protocol.ANSWER_S = 2.0
app()
