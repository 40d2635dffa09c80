"""`python -m adyton` is the same as `adyton`."""

from adyton.cli.main import main

# Child processes of multiprocessing import this module again, under another name.
if __name__ == "__main__":
    main()
