"""The methods, one file each."""

from .aelooksam import AELookSAM
from .aesam import AESAM
from .ausam import AUSAM
from .esam import ESAM
from .fsam import FSAM
from .gsam import GSAM
from .ksam import KSAM
from .looksam import LookSAM
from .msam import MSAM
from .random_sam import RandomSAM
from .sam import SAM
from .sampa import SAMPa
from .splitsam import SplitSAM
from .sssam import SSSAM
from .vsam import VSAM

__all__ = [
    'AELookSAM', 'AESAM', 'AUSAM', 'ESAM', 'FSAM', 'GSAM', 'KSAM', 'LookSAM',
    'MSAM', 'RandomSAM', 'SAM', 'SAMPa', 'SSSAM', 'SplitSAM', 'VSAM'
]
