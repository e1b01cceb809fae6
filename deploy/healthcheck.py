"""Container health: exit 0 if this container's service is ready. Only the standard library, and no proxy."""

import http.client
import os
import sys

connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("SIGHTWORD_PORT", "8000")), timeout=5)
try:
    connection.request("GET", "/health/ready")
    status = connection.getresponse().status
except OSError as error:
    sys.exit(f"not reachable: {error}")
sys.exit(0 if status == 200 else f"/health/ready answered {status}")
