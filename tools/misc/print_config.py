"""Prints a config with its bases and overrides resolved."""

import argparse

from mmengine.config import Config, DictAction


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config file')
    parser.add_argument('--save-path', help='also write it to this file')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction,
        help='settings to override, key=value with dots for nesting')
    args = parser.parse_args()

    # Only to print it, what it imports needs not be installed.
    cfg = Config.fromfile(args.config, import_custom_modules=False)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    print(cfg.pretty_text)
    if args.save_path is not None:
        cfg.dump(args.save_path)


if __name__ == '__main__':
    main()
