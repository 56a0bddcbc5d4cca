"""Builds the ausam_mm distribution.

A wheel also carries ``configs/``, ``tools/`` and ``model-index.yml``, in
``ausam_mm/.mim/``, the place where OpenMMLab packages keep theirs. They are
copied while the package is built, and never into the source tree.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CARRIED = ('configs', 'tools', 'model-index.yml')


def version() -> str:
    """The version, read without importing the package."""
    text = (ROOT / 'ausam_mm' / 'version.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '([^']+)'", text, re.M).group(1)


def readme() -> str:
    path = ROOT / 'README.md'
    return path.read_text(encoding='utf-8') if path.exists() else ''


def requirements(name: str) -> list:
    """The lines of ``requirements/<name>.txt``, OpenMMLab's left out."""
    path = ROOT / 'requirements' / f'{name}.txt'
    lines = path.read_text(encoding='utf-8').splitlines()
    stripped = (line.split('#')[0].strip() for line in lines)
    return [line for line in stripped
            if line and not line.startswith(('onedl-', 'mm'))]


class BuildWithConfigsAndTools(build_py):
    """``build_py`` that puts configs and tools into ``ausam_mm/.mim``."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # a clone has both beside the package
            return
        target = Path(self.build_lib) / 'ausam_mm' / '.mim'
        shutil.rmtree(target, ignore_errors=True)  # an earlier build's
        for source, copy in self._carried():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)

    def get_outputs(self, include_bytecode: bool = True) -> list:
        copies = [] if self.editable_mode else self._carried()
        return (super().get_outputs(include_bytecode) +
                [str(copy) for _, copy in copies])

    def _carried(self) -> list:
        """Pairs of a file in the source tree and its place in the build."""
        target = Path(self.build_lib) / 'ausam_mm' / '.mim'
        return [(path, target / path.relative_to(ROOT))
                for name in CARRIED
                for path in (ROOT / name, *sorted((ROOT / name).rglob('*')))
                if path.is_file() and '__pycache__' not in path.parts]


setup(
    name='ausam_mm',
    version=version(),
    description='Sharpness-aware training at the price of SGD for MMEngine '
    'projects: AUSAM as an optimizer wrapper',
    long_description=readme(),
    long_description_content_type='text/markdown',
    author='The ausam_mm authors',
    license='Apache-2.0',
    keywords='sharpness-aware minimization, SAM, AUSAM, OpenMMLab, MMEngine, '
    'image classification, pose estimation, segmentation, detection',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Programming Language :: Python :: Implementation :: CPython',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    python_requires='>=3.10',
    packages=find_packages(include=['ausam_mm', 'ausam_mm.*']),
    package_data={'ausam_mm': ['py.typed'],
                  'ausam_mm.report': ['templates/*']},
    # Nothing is required on purpose. MMEngine exists under two distribution
    # names that own the same files, and torch is a build that its user chose
    # for a device: naming either here would let `pip install ausam_mm` replace
    # a part of a working environment. For the same reason an extra holds what
    # a task needs besides MMEngine's family, and none of that family. What is
    # needed is in requirements/.
    install_requires=[],
    extras_require={name: requirements(name) for name in (
        'runtime', 'optional', 'analysis', 'classification', 'pose',
        'segmentation', 'detection', 'docs')},
    cmdclass={'build_py': BuildWithConfigsAndTools},
    zip_safe=False,
)
