"""Flower carries fedge's messages: the only room that knows of it.

Flower reads two switches when it is first imported, so they are set before: no telemetry leaves the machine,
and no update check is made. Its strategies announce every step at INFO; fedge's own table says it better.
"""

import logging
import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"

import flwr.app

logging.getLogger(flwr.__name__).setLevel(logging.WARNING)
