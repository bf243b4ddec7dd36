"""`python -m harness` is the `harness` command."""

from harness.commands.main import main

main()
