"""What the garbage collector looks at, and what it still finds. In a process of its own: it is the process's."""

import subprocess
import sys

SCRIPT = """
import gc, weakref
from services.inference.runtimes import memory

class Node:
    pass

def ring():
    first, second = Node(), Node()
    first.next, second.next = second, first
    return first

model = ring()
watched = weakref.ref(model)
garbage = weakref.ref(ring())
memory.settle()
assert garbage() is None, "what the load left is gone"
frozen = gc.get_freeze_count()
assert frozen > 1000, frozen
assert len(gc.get_objects()) < frozen / 10, "a collection sees next to nothing"

del model
gc.collect()
assert watched() is not None, "it is frozen"
memory.release()
assert watched() is None, "a model that has gone is found"
assert gc.get_freeze_count() > 1000, "the rest is frozen again"
assert memory.resident_bytes() > 1_000_000
"""


def test_what_is_loaded_is_kept_from_the_collector_until_a_model_goes():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
