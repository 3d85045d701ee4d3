"""`python -m tests.golden.rewrite` makes the goldens what the program renders now; read the diff before a commit."""

from __future__ import annotations

from tests.golden.rendering import rewrite, stacks

if __name__ == "__main__":
    for stack in stacks():
        changed = rewrite(stack)
        print(f"{stack}: " + (", ".join(changed) if changed else "nothing changed"))
