"""One thread a test process: tests run side by side, and threads that wait for each other crawl."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
