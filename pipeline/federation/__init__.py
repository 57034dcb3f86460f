"""How one training is spread over the sites: process, rounds, checkpoints, runtime.

The only place that imports TensorFlow Federated.
"""

import atexit
import gc
import sys


@atexit.register
def _let_go_of_tffs_default_context() -> None:
    """TFF's own executor stumbles in its `__del__` when the interpreter has already taken its modules apart, whichever module here imported it."""
    if "tensorflow_federated" in sys.modules:
        # Not part of TFF's public face; 0.87 is pinned.
        from tensorflow_federated.python.core.impl.context_stack import set_default_context

        set_default_context.set_no_default_context()
        gc.collect()
