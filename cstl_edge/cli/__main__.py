"""Run the command line as `python -m cstl_edge.cli`."""

from cstl_edge.cli.app import main

if __name__ == "__main__":
    main()
