"""`python -m adyton` is the same as `adyton`."""

from adyton.cli.main import main

main()
