"""The command line: `python run_sim.py` runs the default simulation, `--help` lists the rest."""

from fedsim.cli.main import main

if __name__ == "__main__":
    main()
