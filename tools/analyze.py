"""Looks into trainings by their checkpoints: analyze.py COMMAND --help.

scores: the scores of samples, how often each was used, and images with the
highest and the lowest.
suspects: samples by how likely their annotation is wrong, as a list for other
tools.
gradients: what the scores of samples say of their gradients, and how near
sampled gradients come to those of full batches.
sharpness: how sharp the minima are that trainings have found: eigenvalues and
trace of the Hessian, SAM's sharpness and m-sharpness.
landscape: the loss along the line between checkpoints, and on planes around
them.
"""

import argparse
from importlib import import_module

COMMANDS = ('scores', 'suspects', 'gradients', 'sharpness', 'landscape')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('command', choices=COMMANDS, metavar='COMMAND')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help='those of '
                        'the command')
    args = parser.parse_args()
    # What one command needs need not be installed for the others.
    command = import_module(f'ausam_mm.analysis.commands.{args.command}')
    try:
        command.main(args.arguments)
    except ValueError as error:
        raise SystemExit(str(error)) from error


if __name__ == '__main__':
    main()
