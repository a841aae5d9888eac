"""`python -m allocator`: the command without its script."""

from allocator.cli import main

if __name__ == "__main__":
    main()
