"""What mmpose asks of xtcocotools, made of pycocotools.

mmpose 1.3.2 imports ``xtcocotools``, whose set-up fails from Python 3.13 on
and whose wheels are built against numpy 1. Where it is not installed, and
pycocotools is, ``ausam_mm.compat`` lets ``import xtcocotools`` find this
folder. An installed xtcocotools comes first.
"""
