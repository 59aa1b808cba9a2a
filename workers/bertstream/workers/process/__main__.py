"""Run a worker: `python -m bertstream.workers.process NAME CONTROL_FD`."""

import logging
import os
import sys

from bertstream.workers.process.worker import main

status = main(sys.argv)
# Not sys.exit: the interpreter must not be taken down around threads that are inside torch.
logging.shutdown()
os._exit(status)
