"""A builder process for tests: ``python -m tests.engines.trt.child HOW REQUEST REPORT``."""

import os
import signal
import sys
import time
from pathlib import Path


def main(how, request, report):
    if "PID_FILE" in os.environ:
        Path(os.environ["PID_FILE"]).write_text(str(os.getpid()))
    if how == "crashes":
        print("about to die", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hangs":
        time.sleep(600)
    if how == "forgets":
        return 0
    from engines.backends.trt import child
    from tests.engines.trt import fake

    sys.modules["tensorrt"] = fake.make(10)
    return child.main(Path(request), Path(report), driver=lambda: None)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
