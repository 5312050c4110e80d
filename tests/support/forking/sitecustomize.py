"""Let processes of ours be forked in all that this process starts: Python imports this file if its folder is on PYTHONPATH."""

import os

if "WARREN_TEST_FORKS_AT" in os.environ:
    import subprocess

    from forking_popen import Popen

    subprocess.Popen = Popen
